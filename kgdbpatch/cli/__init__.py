"""The command line: words and pictures for people, built on the facade."""

from __future__ import annotations

from kgdbpatch.cli.main import main

__all__ = ["main"]
