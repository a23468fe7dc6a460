"""Read U-Boot's legacy images (``include/image.h`` of U-Boot, "legacy image format").

64 bytes, big-endian: magic, CRC-32 of the header (with this field 0), time, size of what follows,
load address, entry point, CRC-32 of what follows; then one byte each for operating system,
architecture, type and compression; a name of 32 bytes. In a multi-file image the sizes of its
parts come first, ended by a 0; each part is padded to 4 bytes and the first one is the kernel.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from kgdbpatch.errors import BadImage

__all__ = ["COMPRESSIONS", "MAGIC", "UImage"]

MAGIC = bytes.fromhex("27051956")
COMPRESSIONS = ("none", "gzip", "bzip2", "lzma", "lzo", "lz4", "zstd")
_HEADER = struct.Struct(">7I4B32s")
_POWERPC = 7
_ARCHITECTURES = {
    2: "ARM",
    3: "x86",
    5: "MIPS",
    8: "S/390",
    9: "SuperH",
    12: "M68K",
    22: "ARM64",
    26: "RISC-V",
}
_STANDALONE, _KERNEL, _MULTI, _FIRMWARE, _NOLOAD = 1, 2, 4, 5, 14
_TYPES = {3: "a RAM disk", 6: "a script", 7: "a file system", 8: "a device tree"}


@dataclass(frozen=True, slots=True)
class UImage:
    """What a legacy image holds; ``load`` and ``entry`` are physical, None for one that runs anywhere."""

    data: bytes
    compression: str
    load: int | None
    entry: int | None

    @classmethod
    def read(cls, path: object, raw: bytes) -> UImage:
        """Check a legacy image and return its kernel; raise `BadImage` with the reason why there is none."""
        if len(raw) < _HEADER.size:
            raise BadImage(path, "truncated in the header of the U-Boot image")
        _, crc, _, size, load, entry, data_crc, _, architecture, kind, how, _ = _HEADER.unpack_from(raw)
        found = zlib.crc32(raw[:4] + bytes(4) + raw[8 : _HEADER.size])
        if found != crc:
            raise BadImage(
                path, f"the header of the U-Boot image is damaged: its CRC is {found:08x}, not {crc:08x}"
            )
        data = raw[_HEADER.size : _HEADER.size + size]
        if len(data) < size:
            raise BadImage(path, f"truncated: the U-Boot image holds {len(data)} of its {size} bytes")
        found = zlib.crc32(data)
        if found != data_crc:
            raise BadImage(
                path, f"the U-Boot image's data are damaged: their CRC is {found:08x}, not {data_crc:08x}"
            )
        if architecture != _POWERPC:
            name = _ARCHITECTURES.get(architecture, f"architecture {architecture}")
            raise BadImage(path, f"a U-Boot image for {name}, not PowerPC")
        if kind not in {_STANDALONE, _KERNEL, _MULTI, _FIRMWARE, _NOLOAD}:
            raise BadImage(path, f"the U-Boot image holds {_TYPES.get(kind, f'type {kind}')}, no kernel")
        if how >= len(COMPRESSIONS):
            raise BadImage(path, f"the U-Boot image is compressed in an unknown way ({how})")
        if kind == _MULTI:
            data = _first_part(path, data)
        placed = kind != _NOLOAD
        return cls(data, COMPRESSIONS[how], load if placed else None, entry if placed else None)


def _first_part(path: object, data: bytes) -> bytes:
    for index in range(len(data) // 4):
        (size,) = struct.unpack_from(">I", data, 4 * index)
        if not size:
            (first,) = struct.unpack_from(">I", data)
            start = 4 * index + 4
            if not index or start + first > len(data):
                break
            return data[start : start + first]
    raise BadImage(path, "the parts of the multi-file U-Boot image do not fit into it")
