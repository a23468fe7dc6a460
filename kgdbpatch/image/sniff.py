"""Tell what kind of file it is from its first bytes, and why it is none of ours."""

from __future__ import annotations

import struct

from kgdbpatch.errors import BadImage
from kgdbpatch.image.elf_header import ElfHeader

__all__ = ["is_kext", "kernel_slice"]

_MACHO_BIG, _MACHO_LITTLE = 0xFEEDFACE, 0xCEFAEDFE
_MACHO64 = {0xFEEDFACF, 0xCFFAEDFE}
_FAT = 0xCAFEBABE
_DEVICE_TREE = b"\xd0\x0d\xfe\xed"
_BANNER = b"Linux version "
_RAW = (
    "a raw binary needs its address: 'powerpc-linux-gnu-objcopy -I binary -O elf32-powerpc -B powerpc "
    "--rename-section .data=.text,alloc,load,code,contents FILE k.o; "
    "powerpc-linux-gnu-ld -Ttext=ADDRESS -e ADDRESS -o k.elf k.o' makes an ELF file of it"
)
_CPU_POWERPC = 18
_CPU_64 = 0x0100_0000
_CPU_NAMES = {
    7: "i386",
    12: "ARM",
    _CPU_64 | 7: "x86-64",
    _CPU_64 | 12: "ARM64",
    _CPU_64 | 18: "64-bit PowerPC",
}
_MACHO_TYPES = {4: "a core file", 6: "a shared library", 8: "a bundle", 11: "a kext"}
_MH_OBJECT, _MH_EXECUTE = 1, 2


def kernel_slice(path: object, data: bytes, *, placed: bool = False) -> tuple[str, bytes]:
    """Return ("mach-o", "elf" or "raw", bytes) of the PowerPC kernel in a file; or raise `BadImage`.

    The bytes are a slice of a fat Mach-O file, else ``data``. Raw is a Linux, or what is ``placed``.
    """
    if not data:
        raise BadImage(path, "the file is empty")
    if len(data) < 4:
        raise BadImage(path, "neither Mach-O nor ELF (truncated?)")
    magic = struct.unpack_from(">I", data)[0]
    if magic == _FAT:
        data = _fat_slice(path, data)
        magic = struct.unpack_from(">I", data.ljust(4, b"\0"))[0]
    if data[:4] == b"\x7fELF":
        ElfHeader.read(path, data)
        return "elf", data
    if magic in {_MACHO_BIG, _MACHO_LITTLE} or magic in _MACHO64:
        _check_macho(path, data, magic)
        return "mach-o", data
    if placed or _BANNER in data:
        return "raw", data
    if data.startswith(_DEVICE_TREE):
        raise BadImage(path, "a device tree; for a FIT image: 'dumpimage -T flat_dt -p 0 -o KERNEL FILE'")
    raise BadImage(path, f"neither Mach-O nor ELF; {_RAW}")


def is_kext(data: bytes) -> bool:
    """Tell whether a Mach-O file is an object file, as kernel extensions are, and not a kernel."""
    return data[12:16] == _MH_OBJECT.to_bytes(4, "big")


def _fat_slice(path: object, data: bytes) -> bytes:
    count = struct.unpack_from(">I", data.ljust(8, b"\0"), 4)[0]
    if count > 32:  # Java classes share the magic
        raise BadImage(path, "neither Mach-O nor ELF")
    if len(data) < 8 + 20 * count:
        raise BadImage(path, "truncated in the universal header")
    for index in range(count):
        cpu, _, offset, size, _ = struct.unpack_from(">5I", data, 8 + 20 * index)
        if cpu == _CPU_POWERPC:
            if offset + size > len(data):
                raise BadImage(path, "truncated: the PowerPC part ends beyond the file")
            return data[offset : offset + size]
    raise BadImage(path, "a universal file without a 32-bit PowerPC part")


def _check_macho(path: object, data: bytes, magic: int) -> None:
    if len(data) < 28:
        raise BadImage(path, "truncated in the Mach-O header")
    little = magic in {_MACHO_LITTLE, 0xCFFAEDFE}
    cpu, _, filetype, _, commands_size = struct.unpack_from("<5I" if little else ">5I", data, 4)
    if cpu != _CPU_POWERPC:
        name = _CPU_NAMES.get(cpu, f"CPU type {cpu}")
        raise BadImage(path, f"a Mach-O file for {name}, not 32-bit PowerPC")
    if magic in _MACHO64:
        raise BadImage(path, "a 64-bit Mach-O file; 32-bit is needed")
    if little:
        raise BadImage(path, "a little-endian Mach-O file; PowerPC kernels are big-endian")
    if filetype not in {_MH_OBJECT, _MH_EXECUTE}:  # an object file is a kernel extension
        what = _MACHO_TYPES.get(filetype, f"of type {filetype}")
        raise BadImage(path, f"the Mach-O file is {what}, not an executable")
    if 28 + commands_size > len(data):
        raise BadImage(path, "truncated in the Mach-O load commands")
