"""A second probe behind the calls of functions: it judges what a patch at their exits has told of each.

The exit notes what it saw by the stack pointer of the call. The second probe, before the first instruction
that the caller runs then, compares: its own address, and both result registers as the caller gets them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from kgdbpatch.isa import encode
from kgdbpatch.kernel import Kernel, Patch
from kgdbpatch.kernel.patch import Batch
from kgdbpatch.patch.request import PatchRequest

from . import parts

__all__ = ["Judge", "Judged", "calls_of"]

INCLUDE = "#include <kgdbpatch.h>\n"
MAGIC = 0x6B67_7062
ENTRIES = 1 << 14
TYPES = f"""
#define ENTRIES {ENTRIES}
struct entry {{ unsigned long sp, caller, result, low, check; }};
struct board {{ unsigned long magic, matched, wrong, missed, strayed; struct entry entries[ENTRIES]; }};
#define BOARD ((volatile struct board *)AT)
#define ENTRY(sp) (&BOARD->entries[(sp) / 16 % ENTRIES])
"""
TABLE = f"{TYPES} struct board board = {{ {MAGIC} }}; void nothing(void) {{ }}"
AT_EXIT = f"""{INCLUDE}{TYPES}
void at_exit(struct kgp_exit *exit)
{{
    volatile struct entry *entry = ENTRY(exit->sp);
    entry->caller = exit->caller;
    entry->result = exit->result;
    entry->low = exit->result_low;
    entry->sp = exit->sp;
    entry->check = exit->caller ^ exit->result ^ exit->result_low ^ exit->sp;
}}
"""
BEHIND = f"""{INCLUDE}{TYPES}
void behind(struct kgp_regs *regs)
{{
    volatile struct entry *entry = ENTRY(regs->r1);
    struct entry seen = *entry;
    volatile unsigned long *what = &BOARD->matched;
    /* a thread on another stack may have been writing the same entry */
    if (seen.sp != regs->r1 || seen.check != (seen.caller ^ seen.result ^ seen.low ^ seen.sp))
        what = &BOARD->missed;
    else if (seen.caller != regs->site)
        what = &BOARD->strayed;
    else if (seen.result != regs->r3 || seen.low != regs->r4)
        what = &BOARD->wrong;
    entry->sp = 0;
    __atomic_add_fetch(what, 1, __ATOMIC_RELAXED);
}}
"""


@dataclass(frozen=True)
class Judged:
    """How many calls were told right, wrong, and not at all: those under way when the patches came in.

    What ``strayed`` was told of another call on the same stack, which nobody judged.
    """

    matched: int
    wrong: int
    missed: int
    strayed: int


def calls_of(kernel: Kernel, functions: Iterable[int]) -> dict[int, list[int]]:
    """Return the addresses behind the direct calls of functions, by function: where nothing else leads to."""
    found: dict[int, list[int]] = {function: [] for function in functions}
    wanted = np.array(sorted(found), np.int64)
    reached = branched_to(kernel)
    for section in kernel.image.code_sections():
        words = kernel.image.words(section).astype(np.int64)
        at = np.flatnonzero((words & 0xFC00_0003) == 0x4800_0001)
        distance = (words[at] & 0x3FF_FFFC ^ 0x200_0000) - 0x200_0000
        targets = section.address + 4 * at + distance
        for index in np.flatnonzero(np.isin(targets, wanted)).tolist():
            call = section.address + 4 * int(at[index])
            assert encode.branch_target(call, int(words[at[index]])) == int(targets[index])
            if call + 4 not in reached:
                found[int(targets[index])].append(call + 4)
    return found


def branched_to(kernel: Kernel) -> set[int]:
    """Return where direct branches of the kernel that are no calls lead."""
    found = set[int]()
    for section in kernel.image.code_sections():
        words = kernel.image.words(section).astype(np.int64)
        for opcode, field in ((18, 0x3FF_FFFC), (16, 0xFFFC)):
            at = np.flatnonzero((words >> 26 == opcode) & (words & 3 == 0))
            sign = (field + 4) >> 1
            found.update((section.address + 4 * at + ((words[at] & field ^ sign) - sign)).tolist())
    return found


class Judge:
    """The patches at the exits of functions, and behind their calls, put in together."""

    def __init__(self, kernel: Kernel, busy: str, functions: Iterable[int]) -> None:
        self._kernel = kernel
        self.board = kernel.patch(busy, c=TABLE)
        assert self.board.plan is not None
        self._at = self.board.body + self.board.plan.code.index(MAGIC.to_bytes(4, "big"))
        planner = parts.planner(kernel)
        define = f"#define AT 0x{self._at:x}ul\n"
        exits = planner.payload(PatchRequest(c=define + AT_EXIT, exit=True))
        behind = planner.payload(PatchRequest(c=define + BEHIND))
        calls = calls_of(kernel, functions)
        sites = {site: behind for found in calls.values() for site in found if site not in calls}
        self.batch: Batch = kernel.patch_each({**sites, **dict.fromkeys(calls, exits)})
        self.exits: dict[int, Patch] = {
            one.site: one for one in self.batch.patches if one.plan and one.plan.exits
        }
        self.sites = len(self.batch.patches) - len(self.exits)

    def judged(self) -> Judged:
        """Return what was judged up to now."""
        raw = self._kernel.qemu.ram.read(parts.arena(self._kernel).inside(self._at + 4), 16)
        return Judged(*(int.from_bytes(raw[at : at + 4], "big") for at in range(0, 16, 4)))
