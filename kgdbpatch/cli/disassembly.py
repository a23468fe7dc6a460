"""The command that disassembles: disasm."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from kgdbpatch.cli import completion
from kgdbpatch.cli.options import AsJson, ImageFile, ImageOrName, attach, naming
from kgdbpatch.cli.output import hexadecimal, json_line, tell
from kgdbpatch.cli.waiting import progress
from kgdbpatch.errors import Misuse

if TYPE_CHECKING:
    from kgdbpatch.kernel.code_lines import CodeLine

__all__ = ["disasm"]

_MNEMONIC, _TEXT = 8, 40  # columns


def disasm(
    image: ImageOrName,
    place: Annotated[
        str,
        Argument(
            metavar="FUNC|RANGE|ADDR",
            help="udp_sendmsg, udp_sendmsg+0x10, 0xc0123456, 0xc0001000..0xc0001040, 'patch 1'.",
            autocompletion=completion.functions,
        ),
    ],
    count: Annotated[
        int | None, Argument(metavar="[N]", help="How many instructions; none: to the function's end.")
    ] = None,
    patched: Annotated[
        bool,
        Option("--patched", help="Show what stands there now, and the code of the patches in it."),
    ] = False,
    file: ImageFile = None,
    as_json: AsJson = False,
) -> None:
    """Show code as instructions, with the names of what branches lead to.

    Of a guest, be it paused or dead, it is the kernel's code as it is without patches; their sites are
    marked, and words that the kernel itself has rewritten. With --patched it is what really stands
    there, followed by what patches lead to: springboards, bodies (what is saved, the payload, what is
    put back, the displaced instruction), functions that took another's place, those of updates.

    Jump tables and other data among code is shown as such where the analysis of the kernel knows it.

    \b
    Examples:
      kgdbpatch disasm linux udp_sendmsg
      kgdbpatch disasm darwin run_netisr --patched
      kgdbpatch disasm vmlinux udp_sendmsg+0x10 8 --json
      kgdbpatch disasm linux 0xc0001000..0xc0001040
    """
    from kgdbpatch.kernel import catalog

    if catalog.is_file(image):
        from kgdbpatch.kernel.disassembly import disassemble_file

        if patched:
            raise Misuse("--patched: there are patches in running guests alone")
        with progress(f"analysing {image}"):
            loaded = catalog.open_image(image)
            with naming(loaded):
                lines = disassemble_file(loaded, place, count)
    else:
        with attach(image, file, dead=True) as kernel, progress(f"analysing {kernel.image.path.name}"):
            lines = kernel.disassemble(place, count, patched=patched)
    if as_json:
        for line in lines:
            json_line(asdict(line))
    else:
        _show(lines)


def _show(lines: list[CodeLine]) -> None:
    last = None
    for line in lines:
        own = line.patch is not None
        name = line.symbol.partition("+")[0]
        if own and line.note:
            tell("")
            tell(f"{line.note}:")
        if own and line.symbol == name and line.part == "code":
            tell(f"{name}:")
        elif not own and name != last:
            if last is not None:
                tell("")
            tell(f"{line.symbol}:")
        last = name
        tell(_shown(line))


def _shown(line: CodeLine) -> str:
    mnemonic, _, operands = line.text.partition(" ")
    text = f"{mnemonic:<{_MNEMONIC}}{operands}".rstrip()
    if line.target_symbol is not None and not line.target_symbol.startswith("0x"):
        text += f" <{line.target_symbol}>"
    mark = "*" if line.patches else " "
    beside = f"  # {line.note}" if line.note and line.patch is None else ""
    return f"{hexadecimal(line.address)}{mark} {line.word:08x}  {text:<{_TEXT}}{beside}".rstrip()
