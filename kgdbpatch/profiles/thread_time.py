"""Time functions by the clocks of their threads, which stand while those have no CPU: C, and figures."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = [
    "SWITCHED",
    "TOTALS",
    "ThreadFigures",
    "function_text",
    "read_totals",
    "size_of",
    "switch_text",
]

TOTALS = "kgv_totals"  # the variable of each function's payload
SWITCHED = "kgv_switch"  # the function that runs where a thread gives its CPU to another
_STEPS = 16  # places that a thread may have
BITS = 64

_TOTALS = np.dtype(
    [
        ("changes", ">u4"),
        ("calls", ">u4"),
        ("inclusive", ">u8"),
        ("exclusive", ">u8"),
        ("elapsed", ">u8"),
        ("longest", ">u8"),
        ("buckets", ">u4", (BITS,)),
    ]
)


class ThreadFigures(NamedTuple):
    """The calls of one function on all CPUs that have returned, in ticks of the time base.

    ``inclusive`` is what their threads have run meanwhile, ``exclusive`` less the timed functions that they
    have called, ``elapsed`` all that passed. ``buckets``: how many took up to 1, 3, 7, … ticks inclusively.
    """

    calls: int
    inclusive: int
    exclusive: int
    elapsed: int
    longest: int
    buckets: npt.NDArray[np.int64]


def _text(values: dict[str, object], names: Sequence[str], *, typed: bool) -> str:
    lines = ["#include <kgdbpatch.h>"]
    if typed:
        lines.append("#include <kgdbpatch/types.h>")
    lines += [f"extern char {name}[];" for name in names]
    lines += [f"#define {name} {value}" for name, value in values.items()]
    return "\n".join([*lines, files("kgdbpatch.profiles").joinpath("thread_time.c").read_text()])


def _shared(prefix: str, room: int) -> dict[str, object]:
    return {
        "KGV_THREADS": f"{prefix}_threads",
        "KGV_FULL": f"{prefix}_full",
        "KGV_ROOM": room,
        "KGV_STEPS": _STEPS,
    }


def switch_text(prefix: str, room: int, old: str, new: str, names: Sequence[str], *, typed: bool) -> str:
    """Return the C of what runs where a CPU changes threads, from ``old`` to ``new``; the clocks are its own.

    There are clocks for ``room`` threads, a power of two; ``prefix`` begins the shared names. ``names``
    are the kernel's that those expressions use; ``typed``: its structures as well.
    """
    values = {**_shared(prefix, room), "KGV_OWNER": 1, "KGV_OLD": old, "KGV_NEW": new}
    return _text(values, names, typed=typed)


def function_text(
    prefix: str, room: int, cpus: int, current: str, names: Sequence[str], *, typed: bool
) -> str:
    """Return the C of a timed function's payload; ``current`` is an expression for the running thread."""
    values = {**_shared(prefix, room), "KGV_CPUS": cpus, "KGV_CURRENT": f"((kgv_word)({current}))"}
    return _text(values, names, typed=typed)


def size_of(cpus: int) -> int:
    """Return how many bytes a function's totals take."""
    return cpus * _TOTALS.itemsize


def read_totals(data: bytes) -> tuple[ThreadFigures, bool]:
    """Return a function's figures; and whether nobody was changing them when they were read."""
    rows = np.frombuffer(data, _TOTALS)
    summed = {
        name: int(rows[name].sum(dtype=np.uint64)) for name in ("calls", "inclusive", "exclusive", "elapsed")
    }
    buckets = rows["buckets"].sum(axis=0, dtype=np.int64)
    whole = not (rows["changes"] & 1).any()
    return ThreadFigures(**summed, longest=int(rows["longest"].max()), buckets=buckets), whole
