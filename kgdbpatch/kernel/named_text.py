"""A kernel of which only the place of its code is known: its file is made of the running guest's memory."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from kgdbpatch.errors import Misuse, Refused
from kgdbpatch.guests.attached import address_range
from kgdbpatch.image import Image
from kgdbpatch.kernel import family
from kgdbpatch.kernel.inspecting import leave_process
from kgdbpatch.personality.base import MIB

if TYPE_CHECKING:
    from kgdbpatch.vm.gdb import Debugger, Session
    from kgdbpatch.vm.qemu import Qemu

__all__ = ["named_text"]

_LARGEST = 64 * MIB
_PAGE = 0x1000
_HEADER, _SEGMENT = struct.Struct(">16sHHIIIIIHHHHHH"), struct.Struct(">8I")  # ELF32: header, program header
_IDENT = b"\x7fELF\x01\x02\x01"  # 32 bits, big-endian, version 1
_EXECUTABLE, _POWERPC, _LOADED, _READ_AND_RUN = 2, 20, 1, 5


def named_text(qemu: Qemu, awake: Callable[[], Debugger], text: str, wait: float) -> Image:
    """Return the image of a running kernel whose code is the virtual range ``text`` (START..END).

    An ELF file of it is kept in the guest's directory. Raises `Misuse` for what is no range, `Refused` (rule
    ``mapping``) where the kernel does not map it in one piece of RAM.
    """
    start, end = address_range("--text", text, "the kernel's own addresses: 0xc0000000..0xc0400000")
    if start % 4 or end % 4 or not start < end <= 1 << 32 or end - start > _LARGEST:
        raise Misuse(f"--text {text}: it must be whole instructions, {_LARGEST // MIB} MiB of them at most")
    cpu = family.found(qemu, awake, wait)
    with qemu.exclusive(wait), awake().stopped() as session:
        leave_process(cpu, session)
        physical = _physical(session, start, end)
        if physical + end - start > qemu.ram.size:
            raise Refused("mapping", f"--text {text}: at physical 0x{physical:08x} is no RAM", start)
        code = qemu.ram.read(physical, end - start)
    path = qemu.directory / "kernel.elf"
    _write(path, start, physical, code)
    return Image.load(path)


def _physical(session: Session, start: int, end: int) -> int:
    """Return where a range begins in RAM, by QEMU's own translation, page by page."""
    first = _translated(session, start)
    for page in range(start - start % _PAGE + _PAGE, end, _PAGE):
        if _translated(session, page) != first + page - start:
            raise Refused(
                "mapping",
                f"--text: 0x{page:08x} is not mapped behind the page before it: name what lies in one piece",
                page,
            )
    return first


def _translated(session: Session, address: int) -> int:
    told = session.monitor(f"gva2gpa 0x{address:x}")
    found = re.search(r"gpa: 0x([0-9a-f]+)", told)
    if found is None:
        raise Refused("mapping", f"--text: the kernel does not map 0x{address:08x}", address)
    return int(found[1], 16)


def _write(path: Path, start: int, physical: int, code: bytes) -> None:
    """Write an ELF file with one segment, which is code."""
    sizes = _HEADER.size, _SEGMENT.size
    at = sum(sizes)
    header = _HEADER.pack(
        *(_IDENT, _EXECUTABLE, _POWERPC, 1, start, sizes[0], 0, 0), *(sizes[0], sizes[1], 1, 0, 0, 0)
    )
    segment = _SEGMENT.pack(_LOADED, at, start, physical, len(code), len(code), _READ_AND_RUN, 4)
    path.write_bytes(header + segment + code)
