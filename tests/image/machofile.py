"""Write a small big-endian PowerPC Mach-O executable, independently of the bundled guest's builder."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

N_ABS, N_SECT, N_EXT = 0x2, 0xE, 0x1
PURE_INSTRUCTIONS = 0x8000_0400
ZERO_FILL = 1


N_FUN, N_BNSYM, N_ENSYM = 0x24, 0x2E, 0x4E
Symbols = list[tuple[str, int, int, int]]


def function_stabs(name: str, section: int, address: int, size: int) -> Symbols:
    """Return the debugging entries of one function: N_FUN begins it, an unnamed one gives its size."""
    return [
        ("", N_BNSYM, section, address),
        (f"{name}:F(0,1)", N_FUN, section, address),
        ("", N_FUN, 0, size),
        ("", N_ENSYM, section, address),
    ]


def function_pairs(data: bytes) -> dict[int, int]:
    """Return the sizes of functions by address, by the N_FUN pairs of a file."""
    (count,) = struct.unpack_from(">I", data, 16)
    at, table = 28, None
    for _ in range(count):
        command, size = struct.unpack_from(">2I", data, at)
        if command == 2:
            table = struct.unpack_from(">4I", data, at + 8)
        at += size
    if table is None:
        return {}
    offset, entries, strings, _ = table
    pairs: dict[int, int] = {}
    begun = None
    for index in range(entries):
        name, kind, _, _, value = struct.unpack_from(">IBBHI", data, offset + 12 * index)
        if kind == N_FUN and data[strings + name]:
            begun = value
        elif kind == N_FUN and begun is not None:
            pairs[begun], begun = value, None
    return pairs


@dataclass
class Part:
    segment: str
    name: str
    address: int
    data: bytes = b""
    size: int = 0
    flags: int = 0

    @property
    def length(self) -> int:
        return self.size or len(self.data)


@dataclass
class MachO:
    """``symbols``: (name, n_type, n_sect, n_value)."""

    parts: list[Part]
    symbols: list[tuple[str, int, int, int]]
    entry: int | None = 0
    protection: dict[str, int] = field(default_factory=dict)
    cpu: int = 18
    filetype: int = 2
    extra_commands: list[bytes] = field(default_factory=list)

    def build(self) -> bytes:
        order: list[str] = list(dict.fromkeys(part.segment for part in self.parts))
        count = len(order) + 2 + (self.entry is not None) + len(self.extra_commands)
        size = sum(56 + 68 * sum(p.segment == s for p in self.parts) for s in order) + 56 + 24
        size += 16 + 160 if self.entry is not None else 0
        size += sum(map(len, self.extra_commands))
        blob, base = bytearray(), 28 + size
        commands: list[bytes] = []
        for segment in order:
            parts = [p for p in self.parts if p.segment == segment]
            start = min(p.address for p in parts)
            end = max(p.address + p.length for p in parts)
            offset, sections = base + len(blob), b""
            for part in parts:
                zero = part.flags & 0xFF == ZERO_FILL
                if not zero:
                    blob.extend(b"\0" * (offset + part.address - start - base - len(blob)))
                sections += struct.pack(
                    ">16s16s9I",
                    part.name.encode(),
                    segment.encode(),
                    part.address,
                    part.length,
                    0 if zero else base + len(blob),
                    2,
                    0,
                    0,
                    part.flags,
                    0,
                    0,
                )
                blob.extend(b"" if zero else part.data)
            protection = self.protection.get(segment, 5)
            commands.append(
                struct.pack(
                    ">2I16s8I",
                    1,
                    56 + len(sections),
                    segment.encode(),
                    start,
                    end - start,
                    offset,
                    base + len(blob) - offset,
                    7,
                    protection,
                    len(parts),
                    0,
                )
                + sections
            )
        strings, table = bytearray(b"\0"), b""
        for name, kind, section, value in self.symbols:
            table += struct.pack(">IBBHI", len(strings), kind, section, 0, value)
            strings += name.encode() + b"\0"
        at = base + len(blob)
        commands.append(
            struct.pack(
                ">2I16s8I",
                1,
                56,
                b"__LINKEDIT",
                0xF000_0000,
                0x1000,
                at,
                len(table) + len(strings),
                7,
                1,
                0,
                0,
            )
        )
        commands.append(struct.pack(">6I", 2, 24, at, len(self.symbols), at + len(table), len(strings)))
        commands.extend(self.extra_commands)
        if self.entry is not None:
            commands.append(struct.pack(">4I", 5, 176, 1, 40) + struct.pack(">40I", self.entry, *[0] * 39))
        header = struct.pack(">7I", 0xFEED_FACE, self.cpu, 0, self.filetype, count, size, 1)
        return header + b"".join(commands) + bytes(blob) + table + bytes(strings)
