"""A plan: where a patch is to be, and all writes of it; exactly one of them is the splice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from kgdbpatch.isa import encode
from kgdbpatch.patch.trap import is_trap

if TYPE_CHECKING:
    from kgdbpatch.toolchain.init_calls import InitCall

__all__ = ["UPDATE", "First", "Place", "Plan", "board_code", "code_of"]

UPDATE = (1, 0)  # the guard of an update's first patch, which has none: that tells it from others
_SLOT_WORDS = 4  # springboards are allotted in slots of lis, ori, mtctr, bctr


class Place(NamedTuple):
    """Guest virtual addresses for a plan: body, springboard (None: none to be had), hit counter.

    With a ``trap`` the site is entered by that word. ``real`` is where the springboard is with translation
    off (the body is at its usual address then). ``paged``: an access to body or counter may take an
    exception.
    """

    body: int
    springboard: int | None
    counter: int
    trap: int | None = None
    real: int | None = None
    paged: bool = False


class First(NamedTuple):
    """The init calls of a payload, and the address of the word that tells when they have returned.

    ``holds`` are the modules that it is to keep loaded: name, and address of the structure.
    """

    calls: tuple[InitCall, ...]
    stage: int
    holds: tuple[tuple[str, int], ...] = ()


class Plan(NamedTuple):
    """All writes of one patch; addresses are guest virtual, code is big-endian."""

    site: int
    original: int
    splice: int
    body: int
    code: bytes
    constant_size: int  # leading bytes of ``code`` that never change
    body_words: int  # glue and inline payload, without a C blob
    saved: tuple[str, ...]
    springboard: int | None
    springboard_code: bytes
    guard: tuple[int, int]  # words of the body within which hits - exits counts threads
    counted: bool
    tail: int  # words of the body before the moved instruction
    onward: int  # words of the body before the jump to an older patch of the site, or 0
    forced: tuple[str, ...] = ()  # rules that it goes against
    warnings: tuple[str, ...] = ()  # what whoever asked for it should know
    replaces: bool = False  # threads come back to it by return addresses on their stacks
    guarded: bool = False  # a thread inside the payload passes the site without it (patch/once.py)
    data: bool = False  # the site is a word of data, and ``splice`` what it becomes
    noted: bool = False  # behind the payload stands what is kept of its names
    uses: bool = False  # it was linked against names of other patches
    hands_out: bool = False  # others than its site may call its functions
    first: First | None = None  # what is to be called before the splice

    @property
    def exits(self) -> bool:
        """Whether it runs at a function's exits, by frames of its own: what replaces is not counted else."""
        return self.replaces and self.counted

    @property
    def springboard_used(self) -> bool:
        """Whether the splice goes through the springboard."""
        return bool(self.springboard_code)

    @property
    def entry(self) -> str:
        """How the site leads to the body: ``branch``, ``springboard`` or ``trap``; ``data`` leads nowhere."""
        if self.data:
            return "data"
        return "trap" if is_trap(self.splice) else "springboard" if self.springboard_code else "branch"


def code_of(words: Sequence[int]) -> bytes:
    """Return words as they stand in memory."""
    return b"".join(word.to_bytes(4, "big") for word in words)


def board_code(words: Sequence[int]) -> bytes:
    """Return a springboard's words as they stand in its slots."""
    return code_of([*words, *[encode.nop()] * (-len(words) % _SLOT_WORDS)])
