"""Threads and their kernel stacks: where they are in memory, and which parts of them are dead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

from kgdbpatch.personality.memory_plan import Window

if TYPE_CHECKING:
    from kgdbpatch.image import Image

__all__ = [
    "Memory",
    "PageTables",
    "SavedContext",
    "Thread",
    "ThreadDetail",
    "ThreadSwitch",
    "Threaded",
    "below_sleepers",
]


class Thread(NamedTuple):
    """A thread of the kernel's: its name, its kernel stack, the stack pointer it left when it last slept.

    ``address`` is that of its structure, 0 where it is not known.
    """

    name: str
    stack: Window
    sp: int
    address: int = 0


class ThreadDetail(NamedTuple):
    """What else is known of a thread: its own number, its process's, and whether it runs or waits.

    ``state`` is ``runnable`` for one that has a CPU, too, and "" where it is not known.
    """

    id: int | None = None
    pid: int | None = None
    state: str = ""


class SavedContext(NamedTuple):
    """How exceptions save the registers of what they interrupt in a stack: offsets from where r0 is, bytes.

    r0 to r31 stand in a row, r0 usually ``first`` bytes from the frame's begin. Such a frame's back chain is
    the interrupted r1.
    """

    lr: int
    first: int
    pc: int = 128
    msr: int = 132
    trap: int = 160  # the exception's number: the offset of its vector


class ThreadSwitch(NamedTuple):
    """A function whose entry is reached whenever a thread gives its CPU to another, and C for both there.

    ``old`` and ``new`` may use the function's arguments ``first`` and ``second``, and the kernel's ``names``;
    each is what `Personality.current_thread` calls ``curtask``. ``typed``: they use its structures.
    """

    function: str
    old: str
    new: str
    names: tuple[str, ...] = ()
    typed: bool = False


class Threaded:
    """What a kind of kernel tells of its threads beyond their stacks; nothing where it is not known."""

    context: ClassVar[SavedContext | None] = None  # what exceptions leave in the interrupted stack
    timebase: ClassVar[str] = ""  # the variable (a word) with how many ticks the time base has in a second
    wakes: ClassVar[str] = ""  # the function that makes the thread go on whose structure it is given
    idle: ClassVar[tuple[str, ...]] = ()  # how the names of the threads begin that run when no other does

    def thread_switch(self, image: Image, has: Callable[[str], bool]) -> ThreadSwitch | None:
        """Return where this kernel changes threads; ``has`` as for `Personality.current_thread`."""
        return None

    def thread_details(
        self, image: Image, read: Callable[[int, int], bytes | None], threads: Sequence[Thread]
    ) -> Sequence[ThreadDetail]:
        """Return what else is known of each of ``threads``; ``read`` as for `threads`."""
        return [ThreadDetail()] * len(threads)

    def thread_on(
        self,
        image: Image,
        read: Callable[[int, int], bytes | None],
        threads: Sequence[Thread],
        register: Callable[[str], int],
    ) -> Thread | None:
        """Return which of ``threads`` a CPU runs, be it in its process; None where that is not known.

        ``register(name)`` gives the CPU's registers, special ones (``sprg3``) included.
        """
        return None

    def scheduler(self, image: Image) -> Sequence[Window]:
        """Return the code that changes threads: who is in it has gone to sleep in what called it."""
        return ()


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
