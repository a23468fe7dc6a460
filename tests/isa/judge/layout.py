"""How cases and results lie in the guest's memory, and how both are seen as columns of registers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kgdbpatch.isa.registers import REGISTERS

__all__ = [
    "CASE",
    "COLUMN",
    "RESULT",
    "SLOT",
    "TRAPS",
    "VECTOR_CASE",
    "VECTOR_RESULT",
    "WINDOW",
    "WINDOW_BYTES",
    "Cases",
    "Columns",
    "Results",
    "columns_after",
    "columns_before",
    "has_vectors",
    "width",
]

Cases = npt.NDArray[np.void]
Results = npt.NDArray[np.void]
Columns = npt.NDArray[np.uint64]

WINDOW, WINDOW_BYTES = 0x4000, 288
TRAPS = (0x5000, 0x8000)  # trap words that absolute branches reach
SLOT = 8  # words: two before the one under test, the word, two after it, `b finished`, two traps

CASE = np.dtype(
    [
        *((name, ">u4") for name in ("entry", "msr", "cr", "lr", "ctr", "xer", "spare", "fpscr")),
        ("r", ">u4", 32),
        ("f", ">u8", 32),
        ("window", "u1", WINDOW_BYTES),
    ]
)
RESULT = np.dtype(
    [
        *((name, ">u4") for name in ("vector", "srr0", "srr1", "msr", "cr", "lr", "ctr", "xer")),
        ("r", ">u4", 32),
        ("f", ">u8", 32),
        ("window", "u1", WINDOW_BYTES),
        ("fpscr", ">u8"),
        ("fpscr_before", ">u8"),
        ("spare", ">u8", 2),
    ]
)

_VECTORS = [("v", ">u8", (32, 2)), ("vrsave", ">u4"), ("none", ">u4", 2), ("vscr", ">u4")]
VECTOR_CASE, VECTOR_RESULT = (np.dtype([*kind.descr, *_VECTORS]) for kind in (CASE, RESULT))

COLUMN = {name: index for index, name in enumerate(REGISTERS)}
_XER = {"so": (31, 1), "ov": (30, 1), "ca": (29, 1), "string": (0, 0x7F)}


def has_vectors(state: Cases | Results) -> bool:
    """Tell whether states have AltiVec's registers."""
    return "v" in (state.dtype.names or ())


def width(*, vectors: bool) -> int:
    """Return how many columns there are: AltiVec's come last."""
    return len(REGISTERS) if vectors else COLUMN["v0"]


def _common(state: Cases | Results) -> Columns:
    columns = np.zeros((len(state), width(vectors=has_vectors(state))), dtype=np.uint64)
    if has_vectors(state):
        high, low = (state["v"][:, :, half].astype(np.uint64) for half in (0, 1))
        columns[:, COLUMN["v0"] : COLUMN["v0"] + 32] = high * np.uint64(0x9E3779B97F4A7C15) + low
        columns[:, COLUMN["vscr"]], columns[:, COLUMN["vrsave"]] = state["vscr"], state["vrsave"]
    columns[:, COLUMN["r0"] : COLUMN["r0"] + 32] = state["r"]
    columns[:, COLUMN["f0"] : COLUMN["f0"] + 32] = state["f"]
    for field in range(8):
        columns[:, COLUMN["cr0"] + field] = state["cr"] >> np.uint32(28 - 4 * field) & np.uint32(15)
    for name in ("lr", "ctr", "msr"):
        columns[:, COLUMN[name]] = state[name]
    for name, (shift, bits) in _XER.items():
        columns[:, COLUMN[name]] = state["xer"] >> np.uint32(shift) & np.uint32(bits)
    return columns


def columns_before(cases: Cases, results: Results) -> Columns:
    """Return a column for each register as each case began, by the order of ``REGISTERS``.

    A vector's is a number that hardly any other vector has.
    """
    columns = _common(cases)
    columns[:, COLUMN["fpscr"]] = results["fpscr_before"] & np.uint64(0xFFFFFFFF)
    columns[:, COLUMN["srr0"]], columns[:, COLUMN["srr1"]] = cases["entry"], cases["msr"]
    return columns


def columns_after(results: Results) -> Columns:
    """Return a column for each register as each case ended."""
    columns = _common(results)
    columns[:, COLUMN["fpscr"]] = results["fpscr"] & np.uint64(0xFFFFFFFF)
    columns[:, COLUMN["srr0"]], columns[:, COLUMN["srr1"]] = results["srr0"], results["srr1"]
    return columns
