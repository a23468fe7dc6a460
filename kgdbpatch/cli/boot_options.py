"""The options that say what to boot: of 'boot', and of 'recipe new', which writes them down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from kgdbpatch.cli import completion
from kgdbpatch.cli.dashes import behind_dashes

if TYPE_CHECKING:
    from kgdbpatch.guests.options import BootOptions

__all__ = ["BootFlags", "with_boot_flags"]


@dataclass(frozen=True)
class BootFlags:
    """The options that say what to boot, as they are typed."""

    machine: Annotated[
        str | None,
        Option(
            metavar="M",
            help="The board: a machine description's name, or its FILE.toml.",
            autocompletion=completion.machines,
        ),
    ] = None
    kernel: Annotated[
        Path | None,
        Option(metavar="FILE", help="Boot this kernel: ELF, Mach-O, gzip, uImage, cuImage or zImage."),
    ] = None
    initrd: Annotated[Path | None, Option(metavar="FILE", help="The initial RAM disk.")] = None
    append: Annotated[str | None, Option(metavar="TEXT", help="The kernel's command line.")] = None
    memory: Annotated[int | None, Option(metavar="MIB", min=1, help="How much memory QEMU gives.")] = None
    announced: Annotated[
        int | None,
        Option(
            metavar="MIB", min=1, help="How much of it the kernel uses, where its command line does not say."
        ),
    ] = None
    smp: Annotated[int | None, Option(metavar="N", min=1, help="How many CPUs.")] = None
    cpu: Annotated[
        str | None, Option(metavar="C", help="QEMU's name of the CPU, not the board's usual one.")
    ] = None
    drive: Annotated[
        list[Path] | None,
        Option(metavar="FILE", help="A disk image, which is never written; may be repeated."),
    ] = None
    ready: Annotated[
        str | None, Option(metavar="REGEX", help="The guest is ready when a console line matches.")
    ] = None
    timeout: Annotated[
        float | None, Option(metavar="S", min=0, help="How many seconds that may take; 60 by default.")
    ] = None
    loader: Annotated[
        str | None,
        Option(
            metavar="HOW",
            help="qemu: by -kernel, unpacked; as-is: not unpacked; bootx; device: placed, started at its "
            "entry; firmware: it lies on a disk.",
        ),
    ] = None

    def options(self, ctx: typer.Context) -> BootOptions:
        """Return what they order, with what stood behind ``--``."""
        from kgdbpatch.guests.options import BootOptions

        given = {field.name: getattr(self, field.name) for field in fields(self)}
        drives = tuple(given.pop("drive") or ())
        return BootOptions(**given, drives=drives, qemu=behind_dashes(ctx))


def with_boot_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command these options, in place of its parameter ``flags``."""
    flags = signature(BootFlags, eval_str=True).parameters
    parameters: list[Parameter] = []
    for name, parameter in signature(command, eval_str=True).parameters.items():
        parameters += flags.values() if name == "flags" else [parameter]

    @wraps(command)
    def run(**given: Any) -> None:
        command(flags=BootFlags(**{name: given.pop(name) for name in flags}), **given)

    run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run
