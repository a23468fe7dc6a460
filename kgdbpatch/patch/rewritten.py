"""Words of code that the kernel itself rewrites: what each is, and how to tell of it."""

from __future__ import annotations

from dataclasses import dataclass

from kgdbpatch.isa.decode import decode

__all__ = ["CHANGED", "FEATURE", "FTRACE", "JUMP_LABEL", "PATCH_SITE", "STATIC_CALL", "Rewritten"]

JUMP_LABEL, STATIC_CALL, FTRACE = "jump label", "static call", "ftrace entry"
FEATURE, PATCH_SITE, CHANGED = "feature fix-up", "patch site", "changed word"

_WHY = {
    JUMP_LABEL: "the kernel turns it from nop to branch and back when it switches {0.name}",
    STATIC_CALL: "the kernel rewrites it when it sets the static call {0.name}",
    FTRACE: "the kernel rewrites it when it traces functions ({0.name})",
    FEATURE: "the kernel fits it to the CPU's features ({0.name})",
    PATCH_SITE: "the kernel rewrites it as {0.name}",
    CHANGED: "the kernel has rewritten it since it was loaded",
}
_CHANGE = {
    JUMP_LABEL: "the kernel switched jump label {0.name} at {1}",
    STATIC_CALL: "the kernel set static call {0.name} at {1}",
    FTRACE: "the kernel switched ftrace at {1}",
    FEATURE: "the kernel fitted {1} to the CPU's features ({0.name})",
    PATCH_SITE: "the kernel rewrote {0.name} at {1}",
    CHANGED: "the kernel rewrote {1} again",
}


@dataclass(frozen=True, slots=True)
class Rewritten:
    """One such word: its ``kind``, and the ``name`` of what it belongs to (a key, a call, a table)."""

    kind: str
    name: str = ""

    @property
    def why(self) -> str:
        """Say why nothing of ours should stand there."""
        return _WHY[self.kind].format(self)

    def change(self, place: str, address: int, word: int) -> str:
        """Say that the kernel has rewritten the word at ``address``, called ``place``, to ``word``."""
        found = decode(word, address)
        now = found.text if found.known else f"0x{word:08x}"
        return f"{_CHANGE[self.kind].format(self, place)}: now {now}"
