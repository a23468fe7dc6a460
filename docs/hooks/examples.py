"""Let Markdown see the sessions in docstrings (``>>>``) as code, not as quotations."""

from __future__ import annotations

import re
from typing import Any

import griffe

__all__ = ["Sessions"]

_SESSION = re.compile(r"^>>> .*(?:\n(?!\n).+)*", re.MULTILINE)


class Sessions(griffe.Extension):
    """Put fences around every session."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change one object's docstring (called by griffe)."""
        if obj.docstring is not None:
            obj.docstring.value = _SESSION.sub(r"```pycon\n\g<0>\n```", obj.docstring.value)
