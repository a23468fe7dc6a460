"""The command line: words and pictures for people, built on the facade."""

from __future__ import annotations

import sys

try:
    from kgdbpatch.cli.main import main
except KeyboardInterrupt:  # Ctrl-C while it starts
    sys.exit(130)

__all__ = ["main"]
