"""Memory that QEMU gives and the kernel is not told of: how much there must be, and where it must begin."""

from __future__ import annotations

import re

__all__ = ["LEAST", "comfortable", "fits", "hiding", "no_hidden_memory", "told"]

LEAST = 32  # MiB: the patch table takes half of it (component/layout.py)
_BAT = 256  # MiB: the most that one pair of BATs maps
_MIB = 1 << 20
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
# The last one counts, as in the kernels. Linux: lib/cmdline.c, memparse; Darwin: a number of MiB.
_TOLD = {
    "linux": r"(?:^|\s)mem=(0x[0-9a-f]+|\d+)([kmg]?)(?=\s|$)",
    "darwin": r"(?:^|\s)maxmem=(0x[0-9a-f]+|\d+)()(?=\s|$)",
}
_SAYING = {"linux": "'mem={}M' in --append", "darwin": "'maxmem={}' in --append"}


def fits(memory: int, announced: int) -> bool:
    """Tell whether what lies between two sizes (MiB) is a block for patches: one BAT maps it."""
    hidden = memory - announced
    return hidden >= LEAST and not hidden & (hidden - 1) and announced % hidden == 0


def told(personality: str, command_line: str) -> int | None:
    """Return how much memory (MiB, rounded up) a command line lets the kernel use; None: all there is."""
    found = re.findall(_TOLD.get(personality, "(?!)()()"), command_line, re.IGNORECASE)
    if not found:
        return None
    number, unit = found[-1]
    size = int(number, 0 if number.lower().startswith("0x") else 10)
    size *= _MIB if personality == "darwin" else _UNITS[unit.lower()]
    return -(-size // _MIB) or None


def hiding(memory: int, used: int) -> int | None:
    """Return from where on (MiB) memory is hidden, when the kernel uses ``used`` of it; None: nowhere.

    It is the end of memory, no more than is needed: all of it is to be in reach of the kernel's text.
    """
    start = memory - LEAST
    return start if start >= max(used, 1) and fits(memory, start) else None


def comfortable(most: int) -> int:
    """Return how much memory (MiB), at most so much, a Linux maps by two pairs of BATs, which leaves two."""
    first = min(1 << max(most, 1).bit_length() - 1, _BAT)
    rest = most - first
    return first + (min(1 << rest.bit_length() - 1, _BAT) if rest else 0)


def no_hidden_memory(personality: str, memory: int, step: int, command_line: str) -> str:
    """Return that no memory (MiB) is hidden for patches, and what would hide some."""
    unit, used = max(LEAST, step), told(personality, command_line)
    least = -(-used // unit) * unit + unit if used else 2 * unit
    given = max(-(-memory // unit) * unit, least)
    saying = _SAYING.get(personality, "--announced {}").format(comfortable(given - unit))
    parts = [f"--memory {given}"] if given != memory else []
    parts += [saying] if used is None or used > given - unit else []
    return (
        f"patches lie in memory that the kernel is not told of, and of the {memory} MiB there is none "
        f"({LEAST} MiB at the end); {' and '.join(parts)} would leave some"
    )
