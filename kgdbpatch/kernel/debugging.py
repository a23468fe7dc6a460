"""Give a user's GDB the symbols of a running kernel, of its modules and of its patches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from kgdbpatch.component.layout import SPRINGBOARD_SIZE
from kgdbpatch.errors import BadInput, ComponentDamaged
from kgdbpatch.image.debug import debug_file
from kgdbpatch.image.symbol_file import Place, symbol_file
from kgdbpatch.kernel.patch_names import Noted

if TYPE_CHECKING:
    from kgdbpatch.image import Image
    from kgdbpatch.kernel.kernel import Kernel

__all__ = ["debug", "symbols_beyond"]

_GAP = 0x1000  # bytes between pieces of memory that count as one
_MODULE = " ["  # between a name and its module's


def debug(kernel: Kernel, arguments: Sequence[str], symbols: Path | None, wait: float) -> int:
    """Run GDB at the terminal on a kernel's guest; as `Kernel.debug`."""
    from kgdbpatch.vm.terminal import debug as at_terminal

    image, path = kernel.image, symbols
    try:
        path = debug_file(kernel._image, symbols)
    except BadInput:
        if symbols is not None:
            raise
    with TemporaryDirectory(
        prefix="gdb-", dir=kernel.qemu.directory, ignore_cleanup_errors=True
    ) as directory:
        more = Path(directory) / "symbols.elf"
        data = symbols_beyond(kernel, image, whole=path is None)
        if data:
            more.write_bytes(data)
        return at_terminal(kernel.qemu, path, more if data else None, arguments, wait)


def symbols_beyond(kernel: Kernel, image: Image, *, whole: bool) -> bytes:
    """Return an ELF file with the names of modules and patches, with ``whole`` of the kernel, too.

    Functions and variables of a patch's payload are called ``patch3_name`` there, what is around the payload
    ``patch3``. Nothing where there is nothing to name.
    """
    pieces: list[tuple[int, int]] = []
    places: list[Place] = []
    for function in image.all_functions():
        inside = kernel._image.function_at(function.address) is not None
        if whole or not inside:
            name = function.name.partition(_MODULE)[0]
            places.append(Place(name, function.address, function.end - function.address))
    if places:
        sections = [one for one in image.code_sections() if whole] if whole else []
        pieces += [(one.address, one.address + one.size) for one in sections]
        beyond = [one for one in places if not any(start <= one.address < end for start, end in pieces)]
        pieces += [(one.address, one.address + one.size) for one in beyond]
    header = kernel._text.header()
    if header is not None:
        arena = kernel._component.arena(header.arena)
        for record in arena.records():
            pieces.append((record.body, record.body + record.body_size))
            places.append(Place(f"patch{record.id}", record.body, 0))
            if record.springboard is not None:
                size = SPRINGBOARD_SIZE * record.springboard_slots
                pieces.append((record.springboard, record.springboard + size))
                places.append(Place(f"patch{record.id}_springboard", record.springboard, size))
            with suppress(ComponentDamaged):
                found = arena.note(record)
                if found is not None:
                    places += _of_payload(Noted(record, *found))
    return symbol_file(_joined(pieces), places) if places else b""


def _of_payload(noted: Noted) -> Iterator[Place]:
    prefix, payload, note = f"patch{noted.record.id}_", noted.payload, noted.note
    starts = sorted(one.offset for one in note.functions)
    for function in note.functions:
        behind = next((start for start in starts if start > function.offset), None)
        size = 0 if behind is None else behind - function.offset
        yield Place(prefix + function.name, payload + function.offset, size)
    for variable in note.variables:
        if variable.offset is not None:
            yield Place(prefix + variable.name, payload + variable.offset, 0, code=False)


def _joined(pieces: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return pieces of memory in order, those that touch as one."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(pieces):
        if found and start <= found[-1][1] + _GAP:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found
