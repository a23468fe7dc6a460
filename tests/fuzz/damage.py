"""Damage files the way that parsers fear: numbers at their limits, pieces cut out, doubled, swapped."""

from __future__ import annotations

from hypothesis import strategies as st

__all__ = ["damaged"]

_NUMBERS = [0, 1, 2, 3, 4, 0x7F, 0x80, 0xFF, 0xFFF, 0x1000, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0xFFFFFF]
_NUMBERS += [0x1000000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFC, 0xFFFFFFFF]


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Draw a file that differs from a good one in one to eight places, often in its headers."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 8))):
        if len(data) < 16:
            break
        near = draw(st.sampled_from([min(64, len(data)), min(1024, len(data)), len(data)]))
        at = draw(st.integers(0, near - 1))
        if draw(st.booleans()):
            at = len(data) - 1 - at  # tables often stand at the end
        what = draw(
            st.sampled_from(["number", "number", "number", "halfword", "bytes", "cut", "double", "end"])
        )
        size = draw(st.integers(1, 64))
        if what == "number":
            data[at & ~3 : (at & ~3) + 4] = draw(st.sampled_from(_NUMBERS)).to_bytes(4, "big")
        elif what == "halfword":
            data[at & ~1 : (at & ~1) + 2] = (draw(st.sampled_from(_NUMBERS)) & 0xFFFF).to_bytes(2, "big")
        elif what == "bytes":
            data[at : at + size] = draw(st.binary(min_size=size, max_size=size))
        elif what == "cut":
            del data[at : at + size]
        elif what == "double":
            data[at:at] = data[at : at + size]
        else:
            del data[at:]
    return bytes(data)
