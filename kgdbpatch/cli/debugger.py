"""The command that runs GDB on a guest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from kgdbpatch.cli.dashes import WithDashes, behind_dashes
from kgdbpatch.cli.options import ImageFile, Name, Wait, attach

__all__ = ["gdb"]


class _WithDashes(WithDashes):
    whose = "GDB"


def gdb(
    ctx: typer.Context,
    name: Name,
    symbols: Annotated[
        Path | None, Option(metavar="FILE", help="The file with the kernel's debug information.")
    ] = None,
    image: ImageFile = None,
    wait: Wait = 10.0,
) -> None:
    """Debug a guest with GDB, which knows the names of the kernel, its modules and its patches.

    A patch's functions and variables are called patch3_name. The guest stands still while GDB has it
    stopped, and other commands that want it are told who holds it. When GDB ends, the guest goes on, or is
    paused as before. What stands behind -- is for GDB, whose exit code is the command's.

    Do not write into patched code: 'kgdbpatch verify' would tell of it as damage.

    \b
    Examples:
      kgdbpatch gdb linux
      kgdbpatch gdb linux --symbols vmlinux.debug
      kgdbpatch gdb darwin -- -batch -ex backtrace
    """
    with attach(name, image, wait, dead=True) as kernel:
        code = kernel.debug(*behind_dashes(ctx), symbols=symbols, wait=wait)
    if code:
        raise typer.Exit(code)


gdb.command_class = _WithDashes  # type: ignore[attr-defined]
