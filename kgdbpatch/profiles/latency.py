"""Measure the calls of a function in the guest: the C that does, and the figures read out of its memory."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["BUCKETS", "TIMES", "Figures", "figures", "latency_text", "scale", "size_of"]

TIMES = "kgl_times"  # the variable of each payload
BUCKETS = 65  # of powers of two: zero, one, two to three, …
_SHIFT = 20  # bits of a fraction by which ticks are scaled

# a payload's figures of one CPU: `changes` is odd while they are written
_FIGURES = np.dtype(
    [
        ("changes", ">u4"),
        ("calls", ">u4"),
        ("total", ">u8"),
        ("least", ">u8"),
        ("most", ">u8"),
        ("buckets", ">u4", (BUCKETS,)),
        ("unused", ">u4"),
    ]
)

_TEXT = """#include <kgdbpatch.h>
typedef unsigned long kgl_word;
typedef unsigned long long kgl_wide;
struct kgl_figures {
    kgl_word changes, calls;
    kgl_wide total, least, most;
    kgl_word buckets[%(buckets)d], unused;
};
static volatile struct kgl_figures %(times)s[%(cpus)d];

#define KGL_NOW(high, low)                                                                              \
    do {                                                                                                \
        kgl_word kgl_again;                                                                             \
        __asm__ volatile("0: mftbu %%0; mftb %%1; mftbu %%2; cmplw %%0,%%2; bne- 0b" \
                         : "=&r"(high), "=&r"(low), "=&r"(kgl_again) : : "cr0");                        \
    } while (0)

void kgp_begin(struct kgp_exit *call)
{
    kgl_word high, low;
    KGL_NOW(high, low);
    call->kept[0] = high;
    call->kept[1] = low;
}

void kgl_returned(struct kgp_exit *call)
{
    kgl_word high, low, before = call->kept[1];
    KGL_NOW(high, low);
    high -= call->kept[0] + (low < before);
    low -= before;
    kgl_wide took = ((kgl_wide)high * %(scale)dull << %(left)d) + ((kgl_wide)low * %(scale)dull >> %(shift)d);
    kgl_word upper = took >> 32, lower = took, msr;
    kgl_word bucket = upper ? 64 - __builtin_clzl(upper) : lower ? 32 - __builtin_clzl(lower) : 0;

    /* only this CPU's code runs until the end: a call is counted whole, and once */
    __asm__ volatile("mfmsr %%0" : "=r"(msr));
    __asm__ volatile("mtmsr %%0" : : "r"(msr & ~0x8000ul) : "memory");
    {
        volatile struct kgl_figures *all = &%(times)s[kgp_cpu()];
        all->changes++;
        if (!all->calls || took < all->least)
            all->least = took;
        if (took > all->most)
            all->most = took;
        all->calls++;
        all->total += took;
        all->buckets[bucket]++;
        all->changes++;
    }
    __asm__ volatile("mtmsr %%0" : : "r"(msr) : "memory");
}
"""


def scale(unit_per_tick: float) -> int:
    """Return the number that ticks of the time base are multiplied by in the guest.

    >>> scale(60.0)
    62914560
    """
    return round(unit_per_tick * (1 << _SHIFT))


def latency_text(unit_per_tick: float, cpus: int) -> str:
    """Return the C payload of a function's exits: each has its own figures, a set for each CPU."""
    values = {"buckets": BUCKETS, "times": TIMES, "cpus": cpus, "scale": scale(unit_per_tick)}
    return _TEXT % {**values, "shift": _SHIFT, "left": 32 - _SHIFT}


def size_of(cpus: int) -> int:
    """Return how many bytes the figures of a function take."""
    return cpus * _FIGURES.itemsize


class Figures(NamedTuple):
    """The calls of one function on all CPUs; ``least`` and ``most`` are 0 without calls."""

    calls: int
    total: int
    least: int
    most: int
    buckets: npt.NDArray[np.int64]

    def since(self, before: Figures) -> Figures:
        """Return what came after ``before``; ``least`` and ``most`` are those of its fullest buckets then."""
        buckets = self.buckets - before.buckets
        used = np.flatnonzero(buckets)
        if not before.calls or not len(used):
            return self if not before.calls else Figures(0, 0, 0, 0, buckets)
        first, last = int(used[0]), int(used[-1])
        least = max(self.least, 1 << first - 1 if first else 0)
        most = min(self.most, (1 << last) - 1)
        return Figures(self.calls - before.calls, self.total - before.total, least, most, buckets)

    def ranges(self) -> tuple[tuple[int, int, int], ...]:
        """Return the buckets in use: (least value, below what, how many)."""
        return tuple(
            (1 << index - 1 if index else 0, 1 << index, int(self.buckets[index]))
            for index in np.flatnonzero(self.buckets).tolist()
        )


def figures(memory: bytes) -> tuple[Figures, bool]:
    """Return a function's figures, and whether no CPU was writing them when they were read."""
    raw = np.frombuffer(memory, _FIGURES)
    used = raw[raw["calls"] > 0]
    whole = not bool((raw["changes"] & 1).any())
    if not len(used):
        return Figures(0, 0, 0, 0, np.zeros(BUCKETS, np.int64)), whole
    found = Figures(
        int(used["calls"].sum()),
        int(used["total"].astype(object).sum()),
        int(used["least"].min()),
        int(used["most"].max()),
        used["buckets"].astype(np.int64).sum(axis=0),
    )
    return found, whole
