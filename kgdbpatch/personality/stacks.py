"""Threads and their kernel stacks: where they are in memory, and which parts of them are dead."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from kgdbpatch.personality.memory_plan import Window

__all__ = ["Memory", "PageTables", "Thread", "below_sleepers"]


class Thread(NamedTuple):
    """A thread of the kernel's: its name, its kernel stack, the stack pointer it left when it last slept."""

    name: str
    stack: Window
    sp: int


class Memory(Protocol):
    """The running kernel's memory by kernel virtual address, as far as its stacks can be in it."""

    def read(self, address: int, size: int) -> bytes | None:
        """Return bytes, or None where there is no such memory."""

    def find(self, word: int) -> Sequence[int]:
        """Return all addresses at which a word stands, multiples of 4."""


class PageTables(Protocol):
    """What a kernel maps for itself page by page, in a map that is read anew whenever it is asked."""

    def physical(self, address: int) -> int | None:
        """Return where the memory at an address of the kernel's is, None where there is none."""

    def addresses(self, physical: int) -> Sequence[int]:
        """Return the addresses at which the kernel's page tables map a byte of RAM."""


def below_sleepers(threads: Iterable[Thread], sp: int | None) -> list[Window]:
    """Return the parts of kernel stacks below what each thread left its stack at when it last slept.

    The running thread may have got deeper since: it is the one whose stack the CPU's stack pointer
    ``sp`` is in. Where that is in none (the kernel is about to change stacks), nothing is known. A
    CPU in a process (None) has left the kernel's stacks.
    """
    known = [thread for thread in threads if thread.stack.start < thread.sp <= thread.stack.end]
    if sp is not None:
        sleeping = [thread for thread in known if not thread.stack.start <= sp < thread.stack.end]
        known = sleeping if len(sleeping) < len(known) else []
    return [Window(thread.stack.start, thread.sp) for thread in known]
