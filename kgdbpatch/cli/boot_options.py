"""The options that say what to boot: of 'boot', and of 'recipe new', which writes them down."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kgdbpatch.cli import completion
from kgdbpatch.cli.words import Command

__all__ = [
    "Announced",
    "Append",
    "Cpu",
    "Drives",
    "Guest",
    "GuestName",
    "Initrd",
    "KernelFile",
    "Loader",
    "Machine",
    "Memory",
    "Ready",
    "Smp",
    "Timeout",
    "WithDashes",
    "behind_dashes",
]

_DASHES = "--"
_REST = "kgdbpatch.behind_dashes"  # in a context's meta

Guest = Annotated[
    str | None,
    typer.Argument(
        metavar="GUEST",
        show_default=False,
        help="A recipe's name, or its FILE.toml; with --machine any name.",
        autocompletion=completion.profiles,
    ),
]
GuestName = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="Call the guest NAME, not as its recipe.")
]
Machine = Annotated[
    str | None,
    typer.Option(
        "--machine",
        metavar="M",
        help="The board: a machine description's name, or its FILE.toml.",
        autocompletion=completion.machines,
    ),
]
KernelFile = Annotated[
    Path | None,
    typer.Option(
        "--kernel", metavar="FILE", help="Boot this kernel: ELF, Mach-O, gzip, uImage, cuImage or zImage."
    ),
]
Initrd = Annotated[Path | None, typer.Option("--initrd", metavar="FILE", help="The initial RAM disk.")]
Append = Annotated[str | None, typer.Option("--append", metavar="TEXT", help="The kernel's command line.")]
Memory = Annotated[
    int | None, typer.Option("--memory", metavar="MIB", min=1, help="How much memory QEMU gives.")
]
Announced = Annotated[
    int | None,
    typer.Option(
        "--announced",
        metavar="MIB",
        min=1,
        help="How much of it the kernel uses, where its command line does not say.",
    ),
]
Smp = Annotated[int | None, typer.Option("--smp", metavar="N", min=1, help="How many CPUs.")]
Cpu = Annotated[
    str | None, typer.Option("--cpu", metavar="C", help="QEMU's name of the CPU, not the board's usual one.")
]
Drives = Annotated[
    list[Path] | None,
    typer.Option("--drive", metavar="FILE", help="A disk image, which is never written; may be repeated."),
]
Ready = Annotated[
    str | None,
    typer.Option("--ready", metavar="REGEX", help="The guest is ready when a console line matches."),
]
Timeout = Annotated[
    float | None,
    typer.Option("--timeout", metavar="S", min=0, help="How many seconds that may take; 60 by default."),
]
Loader = Annotated[
    str | None,
    typer.Option(
        "--loader",
        metavar="HOW",
        help="qemu: by -kernel, unpacked; as-is: not unpacked; bootx; device: placed, started at its entry; "
        "firmware: it lies on a disk.",
    ),
]


class WithDashes(Command):
    """A command behind whose ``--`` stand another program's arguments, whatever they look like."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep what stands behind ``--`` for `behind_dashes`."""
        if _DASHES in args:
            at = args.index(_DASHES)
            ctx.meta[_REST] = tuple(args[at + 1 :])
            args = args[:at]
        rest: list[str] = super().parse_args(ctx, args)
        return rest

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return what stands behind the command in its usage line."""
        return [*super().collect_usage_pieces(ctx), "[-- QEMU_ARGUMENTS]"]


def behind_dashes(ctx: typer.Context) -> tuple[str, ...]:
    """Return what stood behind ``--``."""
    return tuple(ctx.meta.get(_REST, ()))
