"""Commands about a guest's memory: read, write."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from kgdbpatch.cli import completion
from kgdbpatch.cli.dump import dump
from kgdbpatch.cli.options import AsJson, ImageFile, Name, Wait, attach
from kgdbpatch.cli.output import hexadecimal, json_line, tell
from kgdbpatch.cli.words import Command
from kgdbpatch.errors import Misuse

if TYPE_CHECKING:
    from kgdbpatch.kernel import Kernel
    from kgdbpatch.kernel.typed import TypedValue
    from kgdbpatch.kernel.writing import Written

__all__ = ["read", "write"]

_USUAL, _MOST_USUAL = 64, 256  # bytes that are shown where nobody says how many
_NUMBER = re.compile(r"(0[xX][0-9a-fA-F]+|[0-9]+)([kKmM]?)")
_SCALE = {"": 1, "k": 1 << 10, "m": 1 << 20}

Place = Annotated[
    str,
    Argument(
        metavar="ADDR|SYMBOL",
        help="0xc0123456, jiffies, init_task+0x18, PATCH:NAME.",
        autocompletion=completion.symbols,
    ),
]
Type = Annotated[
    str | None,
    Option(
        "--as", metavar="TYPE", help="u8 … u64, s32, string, 'char [16]', 'void *', 'struct task_struct', …"
    ),
]
Symbols = Annotated[
    Path | None, Option("--symbols", metavar="FILE", help="The file with the kernel's debug information.")
]
Physical = Annotated[bool, Option("--physical", help="The address is a physical one.")]


class _WithNumbers(Command):
    """A command whose arguments may be negative numbers."""

    ignore_unknown_options = True


def _count(text: str) -> int:
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        raise Misuse(f"'{text}' is no number of bytes or values: write 64, 0x40 or 4k")
    return int(match[1], 16 if match[1][:2] in ("0x", "0X") else 10) * _SCALE[match[2].lower()]


def _address(kernel: Kernel, place: str, physical: bool) -> int:
    if not physical:
        return kernel.places.address(place)
    match = re.fullmatch(r"0[xX]([0-9a-fA-F]{1,16})", place.strip())
    if match is None:
        raise Misuse(f"'{place}' is no physical address: write 0x…")
    return int(match[1], 16)


def read(
    name: Name,
    place: Place,
    count: Annotated[
        str | None,
        Argument(metavar="[N]", help="Bytes, or with --as values. None: what the symbol has, or 64 bytes."),
    ] = None,
    type_: Type = None,
    halves: Annotated[bool, Option("--halves", help="Show 16 bits at a time.")] = False,
    words: Annotated[bool, Option("--words", help="Show 32 bits at a time.")] = False,
    doubles: Annotated[bool, Option("--doubles", help="Show 64 bits at a time.")] = False,
    physical: Physical = False,
    output: Annotated[
        Path | None, Option("--output", "-o", metavar="FILE", help="Write the bytes to a file.")
    ] = None,
    symbols: Symbols = None,
    image: ImageFile = None,
    wait: Wait = 10.0,
    as_json: AsJson = False,
) -> None:
    """Show memory of a kernel, be it running, paused or dead: bytes, or values of a C type.

    The kernel's own memory is read while the guest runs. For addresses that neither the kernel's tables
    nor its modules tell of the guest is stopped once, and its MMU asked. Devices are never read.

    Types other than plain ones need debug information (DWARF or BTF) in the kernel's file, in FILE.elf
    or FILE.debug beside it, or in the one given.

    \b
    Examples:
      kgdbpatch read linux linux_banner
      kgdbpatch read linux jiffies --as u32
      kgdbpatch read linux init_task --as 'struct task_struct'
      kgdbpatch read darwin 0x00018600 64 --words
      kgdbpatch read linux 0x1000 4k --physical -o page.bin
    """
    if sum((halves, words, doubles)) + (type_ is not None) + (output is not None) > 1:
        raise Misuse("--halves, --words, --doubles, --as and --output: one of them")
    with attach(name, image, wait, dead=True) as kernel:
        address, wanted = _address(kernel, place, physical), None if count is None else _count(count)
        if type_ is not None:
            values = kernel.memory.read_as(
                type_, address, 1 if wanted is None else wanted, physical=physical, symbols=symbols
            )
            _show_values(kernel, values, physical, as_json)
            return
        size = wanted if wanted is not None else _usual(kernel, address, physical)
        data = kernel.memory.read(address, size, physical=physical)
        where = "" if physical else kernel.places.name(address)
        if output is not None:
            _save(output, data)
            if not as_json:
                tell(f"{len(data)} bytes from {hexadecimal(address)} in {output}")
        if as_json:
            symbol = where or hexadecimal(address)
            record: dict[str, Any] = {"address": address, "symbol": symbol, "size": len(data)}
            json_line({**record, **({"data": data.hex()} if output is None else {"path": str(output)})})
        elif output is None:
            from kgdbpatch.image.named import names_between

            unit = 2 if halves else 4 if words else 8 if doubles else 1
            begun = {} if physical else names_between(kernel.image, address, address + size)
            first = "" if where == hexadecimal(address) else where
            for line in dump(address, data, unit, first, begun):
                tell(line)


def _usual(kernel: Kernel, address: int, physical: bool) -> int:
    """Return how many bytes to show where nobody says: what the symbol that begins there has."""
    known = None if physical else kernel.places.at(address)
    if known is None or known.address != address or not known.size:
        return _USUAL
    return min(known.size, _MOST_USUAL)


def _save(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise Misuse(f"{path}: {(error.strerror or str(error)).lower()}") from error


def _show_values(kernel: Kernel, values: list[TypedValue], physical: bool, as_json: bool) -> None:
    from kgdbpatch.variables.values import show
    from kgdbpatch.variables.written import lines, plain

    places = kernel.places
    for one in values:
        where = hexadecimal(one.address) if physical else places.name(one.address)
        if as_json:
            record = {"address": one.address, "symbol": where, "type": one.type, "size": one.size}
            text = show(one.shape, one.value, places.name)
            json_line({**record, "value": plain(one.value), "text": text})
            continue
        head = hexadecimal(one.address) + (f" {where}" if where != hexadecimal(one.address) else "")
        told = [*lines(one.shape, one.value, places.name)]
        if not one.shape.fields and len(told) == 1:
            tell(f"{head}: {told[0]}{_in_hexadecimal(one)}")
            continue
        tell(f"{head}: {one.type}, {one.size} bytes")
        for line in told:
            tell(f"  {line}")


def _in_hexadecimal(one: TypedValue) -> str:
    """Return what is to be told of a number besides."""
    if one.shape.kind not in ("signed", "unsigned") or not isinstance(one.value, int):
        return ""
    if 0 <= one.value < 10:
        return ""
    return f" (0x{one.value & (1 << 8 * one.size) - 1:0{2 * one.size}x})"


def write(
    name: Name,
    place: Place,
    values: Annotated[
        list[str],
        Argument(
            metavar="VALUE...",
            help="Numbers, names (their addresses), enumerators, texts, JSON: one behind the other.",
            autocompletion=completion.symbols,
        ),
    ],
    type_: Type = None,
    expect: Annotated[
        list[str] | None,
        Option("--expect", metavar="OLD", help="Write only where this is there now; once for each VALUE."),
    ] = None,
    physical: Physical = False,
    force: Annotated[
        bool, Option("--force", help="Write the kernel's text, constants, and beyond a symbol's end, too.")
    ] = False,
    symbols: Symbols = None,
    image: ImageFile = None,
    wait: Wait = 10.0,
    as_json: AsJson = False,
) -> None:
    """Write values into a running kernel's memory, and say what was there before.

    Without --as a value has as many bytes as the symbol that it is written to, else four. One number of 1,
    2, 4 or 8 bytes at a multiple of that is written at once: the kernel sees the old one or the new one.
    For more, and with --expect, the guest is stopped once. Members that JSON does not name stay as they are.

    Refused are the kernel's text (see 'apply', 'apply --replace'), what its file has as constant, start-up
    memory that was given up, and more than the symbol holds: --force does it nevertheless. Never written
    are sites of patches, the memory of patches ('set' is for their variables), and devices.

    \b
    Examples:
      kgdbpatch write linux panic_timeout 5
      kgdbpatch write linux panic_timeout 10 --expect 5
      kgdbpatch write darwin 0x00223820 1 2 3 --as u16
      kgdbpatch write linux init_task+0x468 '"idle"' --as 'char [16]'
      kgdbpatch write linux 0xc0123450 '{"counter": 0}' --as atomic_t
    """
    from kgdbpatch.kernel.typed import plain_type

    with attach(name, image, wait) as kernel:
        address = _address(kernel, place, physical)
        room = None if physical else kernel.places.room(place, address)
        found = kernel.memory.write(
            address,
            *values,
            type_=type_ or plain_type(room or 0),
            expect=expect or None,
            physical=physical,
            force=force,
            symbols=symbols,
            room=room,
        )
        _show_written(kernel, found, physical, as_json)


def _show_written(kernel: Kernel, found: Written, physical: bool, as_json: bool) -> None:
    from kgdbpatch.variables.values import show
    from kgdbpatch.variables.written import plain

    places = kernel.places
    for old, new in zip(found.before, found.after, strict=True):
        where = hexadecimal(new.address) if physical else places.name(new.address)
        was, is_ = (show(one.shape, one.value, places.name) for one in (old, new))
        if as_json:
            record = {"address": new.address, "symbol": where, "type": new.type, "size": new.size}
            values = {"old": plain(old.value), "new": plain(new.value), "old_text": was, "new_text": is_}
            json_line({**record, **values, "pause_us": found.pause_us})
        else:
            tell(f"{where}: {was}{_in_hexadecimal(old)} ─► {is_}{_in_hexadecimal(new)}")
    if found.pause_us and not as_json:
        tell(f"the guest stood still for {found.pause_us / 1000:.1f} ms")


write.command_class = _WithNumbers  # type: ignore[attr-defined]
