"""Words of code that the kernel itself rewrites: what each is, and how to tell of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from kgdbpatch.isa import encode
from kgdbpatch.isa.decode import decode
from kgdbpatch.isa.fields import Words

__all__ = [
    "CALL_TARGET",
    "CHANGED",
    "DETOUR",
    "FEATURE",
    "FTRACE",
    "JUMP_LABEL",
    "PATCH_SITE",
    "PROBED",
    "STATIC_CALL",
    "UNPROBED",
    "Rewritten",
    "untraced",
]

JUMP_LABEL, STATIC_CALL, CALL_TARGET, FTRACE = (
    "jump label",
    "static call",
    "static call's target",
    "ftrace entry",
)
_BLR, _MFLR_R0, _BRANCH, _CALL = 0x4E80_0020, 0x7C08_02A6, 18, 0x4800_0001
FEATURE, PATCH_SITE, CHANGED = "feature fix-up", "patch site", "changed word"
DETOUR = "kprobe detour"
PROBED, UNPROBED = "kprobe", "kprobe's end"

_WHY = {
    JUMP_LABEL: "the kernel turns it from nop to branch and back when it switches {0.name}",
    STATIC_CALL: "the kernel rewrites it when it sets the static call {0.name}",
    CALL_TARGET: "the kernel rewrites it when it sets the static call {0.name}",
    FTRACE: "the kernel rewrites it when it traces functions ({0.name})",
    FEATURE: "the kernel fits it to the CPU's features ({0.name})",
    PATCH_SITE: "the kernel rewrites it as {0.name}",
    CHANGED: "the kernel has rewritten it since it was loaded",
    DETOUR: "the kernel puts code of its kprobes there ({0.name})",
    PROBED: "the kernel has a kprobe there",
}
_CHANGE = {
    JUMP_LABEL: "the kernel switched jump label {0.name} at {1}",
    STATIC_CALL: "the kernel set static call {0.name} at {1}",
    CALL_TARGET: "the kernel set the target of static call {0.name} at {1}",
    FTRACE: "the kernel switched ftrace at {1}",
    FEATURE: "the kernel fitted {1} to the CPU's features ({0.name})",
    PATCH_SITE: "the kernel rewrote {0.name} at {1}",
    CHANGED: "the kernel rewrote {1} again",
    DETOUR: "the kernel put code of a kprobe at {1}",
    PROBED: "the kernel put a kprobe at {1}",
    UNPROBED: "the kernel took out its kprobe at {1}",
}


class Rewritten(NamedTuple):
    """One such word: its ``kind``, the ``name`` of what it belongs to, a jump label's ``target``.

    An ftrace entry has a ``target`` where it is certain that calls there are a tracer's.
    """

    kind: str
    name: str = ""
    target: int | None = None

    @property
    def why(self) -> str:
        """Say why nothing of ours should stand there."""
        return _WHY[self.kind].format(self)

    def may_hold(self, address: int, word: int) -> bool:
        """Tell whether the kernel itself may have written ``word`` at ``address``; damage is all else."""
        if self.kind in (DETOUR, PROBED, UNPROBED):
            return True
        if self.kind == CALL_TARGET:
            return word & 3 == 0
        if self.kind == JUMP_LABEL:
            leads = encode.branch_target(address, word)
            return word == encode.nop() or (word >> 26 == _BRANCH and not word & 1 and leads == self.target)
        if self.kind in (STATIC_CALL, FTRACE):
            return word in (encode.nop(), _BLR, _MFLR_R0) or (word >> 26 == _BRANCH and not word & 2)
        return self.kind != CHANGED and decode(word, address).known

    def change(self, address: int, word: int, symbolize: Callable[[int], str]) -> str:
        """Say that the kernel has rewritten the word at ``address`` to ``word``."""
        found, leads = decode(word, address), encode.branch_target(address, word)
        now = found.text if found.known else f"0x{word:08x}"
        if leads is not None:
            now = f"{found.mnemonic} {symbolize(leads)}"
        elif self.kind == CALL_TARGET:
            now = symbolize(word)
        return f"{_CHANGE[self.kind].format(self, symbolize(address))}: now {now}"


def untraced(rewritten: Mapping[int, Rewritten], address: int, words: Words) -> Words:
    """Return code as it is while nothing is traced: nops for what are certainly calls of a tracer.

    So it is when the kernel has booted; a file has the calls that the compiler made.
    """
    places = np.fromiter(rewritten, np.int64, len(rewritten)) - address
    places = places[(places >= 0) & (places < 4 * len(words)) & (places & 3 == 0)]
    calls = places[(words[places >> 2] & np.uint32(0xFC00_0003)) == _CALL].tolist()
    found = ((place, rewritten[address + place]) for place in calls)
    traced = [place >> 2 for place, what in found if what.kind == FTRACE and what.target is not None]
    if not traced:
        return words
    words = words.copy()
    words[traced] = encode.nop()
    return words
