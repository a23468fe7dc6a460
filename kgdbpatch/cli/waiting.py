"""Tell on stderr what takes long: a spinner on a terminal, a rare line elsewhere."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kgdbpatch.cli.output import printable, tell

if TYPE_CHECKING:
    from rich.live import Live
    from rich.spinner import Spinner

__all__ = ["progress"]

_PATIENCE = 1.0  # seconds that nobody asks about
_SIGN_OF_LIFE = 30.0  # seconds between lines in a log
_A_SECOND = 8  # pictures


class _Progress:
    """Told what is being done, shows it where it is worth it."""

    def __init__(self, what: str) -> None:
        self._what, self._said = what, time.monotonic()
        self._live: Live | None = None
        self._ended, self._turn = False, threading.Lock()
        animated = sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
        self._timer = threading.Timer(_PATIENCE, self._begin) if animated else None
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()

    def __call__(self, what: str) -> None:
        self._what = what
        if self._timer is None:
            if time.monotonic() - self._said >= _SIGN_OF_LIFE:
                tell(f"kgdbpatch: {what}", err=True, flush=True)
                self._said = time.monotonic()
        elif self._live is not None:
            self._live.update(self._picture())

    def _picture(self) -> Spinner:
        from rich.spinner import Spinner
        from rich.text import Text

        return Spinner("dots", Text(printable(self._what)))

    def _begin(self) -> None:
        from rich.console import Console
        from rich.live import Live

        with self._turn:
            if not self._ended:
                self._live = Live(
                    self._picture(),
                    console=Console(stderr=True),
                    refresh_per_second=_A_SECOND,
                    transient=True,
                    redirect_stdout=False,
                    redirect_stderr=False,
                )
                self._live.start()

    def end(self) -> None:
        """Take the spinner away."""
        with self._turn:
            self._ended = True
            if self._timer is not None:
                self._timer.cancel()
            if self._live is not None:
                self._live.stop()
                self._live = None


@contextmanager
def progress(what: str) -> Iterator[_Progress]:
    """Show what is done, or told to what is yielded, if it takes over a second; print nothing meanwhile."""
    shown = _Progress(what)
    try:
        yield shown
    finally:
        shown.end()
