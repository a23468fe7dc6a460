"""Where the sources of the bundled guests are, and how what makes kernels of them is run."""

from __future__ import annotations

import subprocess
from pathlib import Path

from kgdbpatch.errors import BuildFailed

__all__ = ["guest_sources", "output"]

_PACKAGE = Path(__file__).resolve().parent.parent


def guest_sources(name: str) -> Path:
    """Return the directory of a guest's sources: the installed package's, else the checkout's.

    Raises `BuildFailed` where there is none.
    """
    for parent in (_PACKAGE / "_data" / "images", _PACKAGE.parent / "images"):
        if (parent / name).is_dir():
            return parent / name
    raise BuildFailed(f"the sources of the guest '{name}' are not installed")


def output(*command: str) -> str:
    """Run a tool; return what it prints, or raise `BuildFailed` with its own words or for want of it."""
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except FileNotFoundError as error:
        raise BuildFailed(f"{command[0]} is not installed (scripts/setup installs what is needed)") from error
    except subprocess.CalledProcessError as error:
        raise BuildFailed(f"{' '.join(command)}: {error.stderr.strip()}") from error
