"""The C text of a payload that has a function return a value at once: every so often, so many times."""

from __future__ import annotations

from typing import NamedTuple

from kgdbpatch.errors import Misuse

__all__ = ["Override"]

_LEAST, _MOST = -(1 << 31), (1 << 32) - 1


class Override(NamedTuple):
    """What a function is made to return, at every ``every``-th of its calls, ``times`` times (None: always).

    >>> "kgp_return(-12)" in Override(-12, times=3).source()
    True
    """

    value: int
    times: int | None = None
    every: int = 1

    def checked(self) -> Override:
        """Return itself; raise `Misuse` for numbers that make no sense."""
        if not _LEAST <= self.value <= _MOST:
            raise Misuse(f"a function returns 32 bits here: {self.value} has more")
        if self.times is not None and not 1 <= self.times <= _MOST:
            raise Misuse(f"times is from 1 on, not {self.times}")
        if not 1 <= self.every <= _MOST:
            raise Misuse(f"every is from 1 on, not {self.every}")
        return self

    def source(self) -> str:
        """Return the C text; its variables ``seen`` and ``given`` tell of calls and of results given."""
        lines = [
            "#include <kgdbpatch.h>",
            "unsigned long seen, given;",
            "void override(struct kgp_regs *regs)",
            "{",
            "    unsigned long calls = __atomic_add_fetch(&seen, 1, __ATOMIC_RELAXED);",
            f"    if (calls % {self.every}u) return;",
        ]
        if self.times is not None:
            lines += [
                f"    if (given >= {self.times}u) return;",
                f"    if (__atomic_add_fetch(&given, 1, __ATOMIC_RELAXED) > {self.times}u) {{",
                "        __atomic_sub_fetch(&given, 1, __ATOMIC_RELAXED);",
                "        return;",
                "    }",
            ]
        else:
            lines.append("    __atomic_add_fetch(&given, 1, __ATOMIC_RELAXED);")
        return "\n".join([*lines, f"    kgp_return({self.value});", "}", ""])
