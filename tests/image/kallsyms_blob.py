"""Write what scripts/kallsyms.c of Linux puts into a kernel, in each of its layouts."""

from __future__ import annotations

import struct
from collections.abc import Sequence

LAYOUTS = ("offsets", "addresses", "offsets behind", "addresses behind")


def blob(symbols: Sequence[tuple[str, str, int]], layout: str, *, align: int = 4) -> bytes:
    """Return the tables of symbols (name, nm's letter, address), which must be sorted by address."""
    pairs = [b"in", b"sys_", b"_t"]  # tokens of several letters, under numbers that no letter has
    tokens = [bytes([n]) if 32 < n < 127 else b"" for n in range(256)]
    for number, pair in enumerate(pairs):
        tokens[128 + number] = pair
    names, markers = bytearray(), []
    for index, (name, kind, _) in enumerate(symbols):
        if index % 256 == 0:
            markers.append(len(names))
        text = (kind + name).encode()
        for number, pair in enumerate(pairs):
            text = text[:1] + text[1:].replace(pair, bytes([128 + number]))
        size = len(text)
        names += bytes([size]) if size < 128 else bytes([size & 0x7F | 0x80, size >> 7])
        names += text

    def padded(data: bytes) -> bytes:
        return data + bytes(-len(data) % align)

    base = symbols[0][2]
    if layout.startswith("addresses"):
        where = padded(struct.pack(f">{len(symbols)}I", *(address for *_, address in symbols)))
    else:
        where = padded(struct.pack(f">{len(symbols)}I", *(address - base for *_, address in symbols)))
        where += padded(struct.pack(">I", base))
    starts = [sum(len(token) + 1 for token in tokens[:number]) for number in range(256)]
    tables = padded(struct.pack(">I", len(symbols))) + padded(bytes(names))
    tables += padded(struct.pack(f">{len(markers)}I", *markers))
    tables += padded(b"".join(token + b"\0" for token in tokens)) + padded(struct.pack(">256H", *starts))
    if not layout.endswith("behind"):
        return where + tables
    order = sorted(range(len(symbols)), key=lambda number: symbols[number][0])
    return tables + where + b"".join(number.to_bytes(3, "big") for number in order)
