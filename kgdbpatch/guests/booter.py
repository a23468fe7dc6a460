"""Play the booter of a Darwin/PPC kernel: what BootX does, as arguments of QEMU.

Every segment of the Mach-O file is put at its address; a page behind the last one holds the boot
arguments (BootX's ``boot_args``, revision 1) and a few instructions that enter the kernel as BootX
does: in real mode, r3 the boot arguments, r4 ``'MOSX'``, at the start address of LC_UNIXTHREAD.
"""

from __future__ import annotations

import struct
from pathlib import Path

from kgdbpatch.errors import BadImage
from kgdbpatch.image import Image
from kgdbpatch.isa import encode

__all__ = ["boot_page", "loader_args"]

PAGE = 0x1000
_SIGNATURE = int.from_bytes(b"MOSX", "big")
_COMMAND_LINE = 256  # bytes, with the final zero
_BANKS = 26
_TRAMPOLINE = 0x400  # offset in the boot page


def boot_page(address: int, entry: int, memory: int, command_line: str) -> bytes:
    """Return the page for ``address``: boot arguments for ``memory`` bytes of RAM and the way in.

    ``memory`` is what the machine has; what the kernel may use is said by ``maxmem=`` in MiB.
    """
    line = command_line.encode()
    if len(line) >= _COMMAND_LINE:
        raise ValueError(f"the kernel's command line is longer than {_COMMAND_LINE - 1} bytes")
    revision = version = 1
    banks = [0, memory] + [0] * (2 * _BANKS - 2)
    video = [0] * 6
    machine_type = device_tree = device_tree_length = 0
    arguments = struct.pack(
        f">2H{_COMMAND_LINE}s{2 * _BANKS}I6I4I",
        revision,
        version,
        line,
        *banks,
        *video,
        machine_type,
        device_tree,
        device_tree_length,
        address + PAGE,  # top of kernel data
    )
    words = [
        *encode.load_address(3, address),
        *encode.load_address(4, _SIGNATURE),
        *encode.load_address(5, entry),
        encode.mtctr(5),
        encode.bctr(),
    ]
    code = b"".join(word.to_bytes(4, "big") for word in words)
    return (arguments.ljust(_TRAMPOLINE, b"\0") + code).ljust(PAGE, b"\0")


def loader_args(kernel: Path, directory: Path, memory: int, command_line: str) -> list[str]:
    """Return QEMU's arguments that boot ``kernel``; what is loaded is written to ``directory``.

    ``memory`` is the machine's RAM in bytes. Raises `BadImage` when the kernel does not fit.
    """
    image = Image.load(kernel)
    segments = [segment for segment in image.segments if segment.size]
    top = -(-max((segment.end for segment in segments), default=0) // PAGE) * PAGE
    if image.format != "mach-o" or not image.entry or top + PAGE > memory:
        raise BadImage(kernel, "no Mach-O kernel that starts in real mode in low memory")
    pieces = [(segment.address, segment.data.ljust(segment.size, b"\0")) for segment in segments]
    pieces.append((top, boot_page(top, image.entry, memory, command_line)))
    args = []
    for address, data in pieces:
        path = directory / f"boot-{address:08x}.bin"
        path.write_bytes(data)
        name = str(path).replace(",", ",,")
        args += ["-device", f"loader,file={name},addr=0x{address:x},force-raw=on"]
    return [*args, "-device", f"loader,addr=0x{top + _TRAMPOLINE:x},cpu-num=0"]
