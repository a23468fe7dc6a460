"""The program: what ``kgdbpatch`` and ``python -m kgdbpatch`` start, a process of its own."""

from __future__ import annotations

import sys

from kgdbpatch import interpreter

__all__ = ["main"]


def main() -> None:
    """Run the command line of the process, and end it."""
    interpreter.set_up()  # before all that is imported
    from kgdbpatch.cli.main import run

    interpreter.leave(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
