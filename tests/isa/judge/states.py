"""Make machine states to run words in: random, edge and equal values frequent; change one register."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kgdbpatch.isa.registers import REGISTERS

from .layout import CASE, VECTOR_CASE, WINDOW_BYTES, Cases

__all__ = ["MSR", "MSR_FREE", "MSR_PR", "copy_register", "random_cases"]

Bools = npt.NDArray[np.bool_]

MSR, MSR_PR, MSR_RI = 0x3000, 0x4000, 0x2  # FP and ME; user state; one bit that changes nothing
MSR_FE = 0x900  # FE0 and FE1: enabled floating-point exceptions trap
MSR_VEC = 0x0200_0000
MSR_FREE = MSR_RI | MSR_FE  # what mtmsr and rfi may set here
_EDGES = np.array([0, 1, 2, 31, 32, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFF8000, 0x7FFF], np.uint32)
_DOUBLES = np.array(
    [
        *(0, 1 << 63, 0x3FF << 52, 0xBFF << 52, 0x7FF << 52, 0xFFF << 52, 1, 0x000FFFFFFFFFFFFF),
        *(0x7FF8000000000000, 0x7FEFFFFFFFFFFFFF, 0x47EFFFFFE0000000, 0x41E0000000000000),
        *(0x7FF0000000000001, 0xFFF4000000000000, 0x7FF7FFFFE0000000),  # signalling, as invalid as can be
    ],
    np.uint64,
)
_SINGLES = np.array(
    [
        *(0, 1 << 31, 0x3F80_0000, 0xBF80_0000, 0x7F80_0000, 0xFF80_0000, 1, 0x007F_FFFF, 0x807F_FFFF),
        *(0x0080_0000, 0x7F7F_FFFF, 0x7FC0_0000, 0xFFC0_0000, 0x7FA0_0000, 0x4F00_0000, 0xCF80_0000),
        *(0x0040_0000, 0x8040_0000, 0x0100_0000, 0x3F00_0000, 0x3FC0_0000, 0xC2FC_0000, 0xC302_0000),
    ],
    np.uint32,
)
_FPSCR = 0x9FFFF7FF  # without FEX and VX, which follow from the others, and the reserved bit


def random_cases(random: np.random.Generator, count: int, *, vectors: bool = False) -> Cases:
    """Return ``count`` states without an entry, with AltiVec's registers where ``vectors`` are asked for."""
    cases = np.zeros(count, VECTOR_CASE if vectors else CASE)

    def words(*shape: int) -> npt.NDArray[np.uint32]:
        plain = random.integers(0, 1 << 32, shape, dtype=np.uint32)
        return np.where(random.random(shape) < 0.3, random.choice(_EDGES, shape), plain)

    for name in ("cr", "lr", "ctr"):
        cases[name] = words(count)
    cases["xer"] = words(count) & np.uint32(0xE0000000) | random.integers(0, 32, count, dtype=np.uint32)
    # exceptions are enabled often, so that it is seen what an enabled one keeps from happening
    scr = random.integers(0, 1 << 32, count, dtype=np.uint32) & np.uint32(_FPSCR)
    cases["fpscr"] = np.where(random.random(count) < 0.1, 0, scr)
    cases["r"] = words(count, 32)
    cases["f"] = _doubles(random, (count, 32))
    cases["window"] = random.integers(0, 256, (count, WINDOW_BYTES), dtype=np.uint8)
    cases["msr"] = MSR | random.integers(0, 2, count) * MSR_RI | (random.random(count) < 0.75) * MSR_FE
    if vectors:
        cases["msr"] |= MSR_VEC
        cases["v"] = _vectors(random, (count, 32))
        cases["vscr"] = random.integers(0, 2, count) << 16 | random.integers(0, 2, count)
        cases["vrsave"] = words(count)
    return cases


def _vectors(random: np.random.Generator, shape: tuple[int, int]) -> npt.NDArray[np.uint64]:
    """Return vectors of bytes, halfwords, words or single-precision numbers, edges frequent."""
    bytes_ = random.integers(0, 256, (*shape, 16), dtype=np.uint8)
    edges = random.choice(np.array([0, 1, 0x7F, 0x80, 0xFF], np.uint8), (*shape, 16))
    plain = np.where(random.random((*shape, 16)) < 0.4, edges, bytes_).view(">u4")
    word = np.where(random.random((*shape, 4)) < 0.3, random.choice(_EDGES, (*shape, 4)), plain)
    near_one = random.integers(0x3D00_0000, 0x4300_0000, (*shape, 4), dtype=np.uint32)
    near_one |= random.integers(0, 2, (*shape, 4), dtype=np.uint32) << np.uint32(31)
    single = np.where(random.random((*shape, 4)) < 0.5, random.choice(_SINGLES, (*shape, 4)), near_one)
    of_numbers = random.random((*shape, 1)) < 0.5
    found: npt.NDArray[np.uint64] = np.where(of_numbers, single, word).astype(">u4").view(">u8")
    return found


def _doubles(random: np.random.Generator, shape: tuple[int, int]) -> npt.NDArray[np.uint64]:
    exponent = random.integers(0x3F0, 0x410, shape, dtype=np.uint64) << np.uint64(52)
    sign = random.integers(0, 2, shape, dtype=np.uint64) << np.uint64(63)
    fraction = random.integers(0, 1 << 52, shape, dtype=np.uint64)
    single = fraction >> np.uint64(29) << np.uint64(29)
    numbers = sign | exponent | np.where(random.random(shape) < 0.5, fraction, single)
    anything = random.integers(0, 1 << 64, shape, dtype=np.uint64)
    choice = random.random(shape)
    return np.where(choice < 0.4, random.choice(_DOUBLES, shape), np.where(choice > 0.85, anything, numbers))


_XER = {"so": 1 << 31, "ov": 1 << 30, "ca": 1 << 29, "string": 0x1F}
_WORDS: dict[str, tuple[str, int]] = {
    **{f"cr{n}": ("cr", 0xF << (28 - 4 * n)) for n in range(8)},
    **{name: ("xer", bits) for name, bits in _XER.items()},
    **{name: (name, 0xFFFFFFFF) for name in ("lr", "ctr")},
    "fpscr": ("fpscr", _FPSCR),
    "msr": ("msr", MSR_RI),
    "vscr": ("vscr", 0x1_0001),
    "vrsave": ("vrsave", 0xFFFFFFFF),
}
_SMALL = ("cr", "xer", "msr", "vscr")  # fields all of whose bits may be flipped


def copy_register(to: Cases, column: int, rows: Bools, source: Cases, *, differ: bool = False) -> None:
    """Copy one register of some states from others; with ``differ``, flip bits where they are equal."""
    name = REGISTERS[column]
    if name[0] in "rfv" and name[1:].isdigit():
        field, number = name[0], int(name[1:])
        old, new = to[field][:, number], source[field][:, number]
        bits = 0xFFFFFFFF if field == "r" else (1 << 64) - 1
    elif name in _WORDS:
        field, bits = _WORDS[name]
        old, new = to[field], source[field]
    else:
        return  # state that only instructions reach: see `sandwich`
    ones = old.dtype.type(bits)
    mixed = (old & ~ones) | (new & ones)
    if differ:
        some = ones if field in _SMALL else old.dtype.type(2)
        mixed = np.where(mixed == old, old ^ some, mixed)
    old[rows] = mixed[rows]
