"""Where the sources of the bundled guests are."""

from __future__ import annotations

from pathlib import Path

from kgdbpatch.errors import BuildFailed

__all__ = ["guest_sources"]

_PACKAGE = Path(__file__).resolve().parent.parent


def guest_sources(name: str) -> Path:
    """Return the directory of a guest's sources: the installed package's, else the checkout's.

    Raises `BuildFailed` where there is none.
    """
    for parent in (_PACKAGE / "_data" / "images", _PACKAGE.parent / "images"):
        if (parent / name).is_dir():
            return parent / name
    raise BuildFailed(f"the sources of the guest '{name}' are not installed")
