"""When code may change under a kernel: nobody is in it, neither a CPU nor a thread that will return to it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from kgdbpatch.isa.abi import SYSV
from kgdbpatch.personality.base import Thread, Window
from kgdbpatch.vm.registers import GRegisters

if TYPE_CHECKING:
    from kgdbpatch.kernel.guest import RunningGuest

__all__ = ["Blocker", "Ranges", "Stacks", "stacks_of"]

_MOST_FRAMES = 512
_PIECE = 0x1000  # bytes that are read at a time of a stack that is no thread's
_TOP = 0x400  # bytes: no more than what an entry into the kernel leaves at the top of a stack


class Blocker(NamedTuple):
    """Somebody inside a function: who, at which address, how many frames below the innermost."""

    function: str
    thread: str
    address: int
    depth: int

    def __str__(self) -> str:
        """Return it for people."""
        deep = "" if not self.depth else f", {self.depth} frame{'s' * (self.depth > 1)} up"
        return f"{self.thread} is in {self.function} (0x{self.address:08x}{deep})"


class Ranges:
    """Functions by address: (start, end, name); at its very start nobody is in one yet."""

    def __init__(self, rows: Sequence[tuple[int, int, str]]) -> None:
        self._rows = sorted(rows)
        self._starts = [start for start, _, _ in self._rows]

    def __bool__(self) -> bool:
        return bool(self._rows)

    def inside(self, address: int) -> str | None:
        """Return the name of the function that an address is in."""
        number = bisect_right(self._starts, address) - 1
        if number < 0:
            return None
        start, end, name = self._rows[number]
        return name if start < address < end else None


class _Word(NamedTuple):
    """What may be a return address: where it stands, what it is, how many frames up."""

    at: int
    value: int
    depth: int


class _Top(NamedTuple):
    """A thread's stack pointer; ``running``: a CPU's, which may be at any instruction."""

    sp: int
    running: bool


class Stacks(NamedTuple):
    """What is known of a stopped kernel's stacks.

    ``read(address, size)`` gives memory, or None. ``status(words)`` tells which words may be the kernel's
    MSR. ``lr`` are the offsets at which a frame may hold the saved LR, bytes.
    """

    threads: Sequence[Thread]
    cpus: Sequence[GRegisters]
    in_process: Callable[[int], bool]
    read: Callable[[int, int], bytes | None]
    status: Callable[[npt.NDArray[np.uint32]], npt.NDArray[np.bool_]]
    lr: Sequence[int]

    def contexts(self, words: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
        """Tell of each word whether it can be the pc that an exception saved, with MSR behind it.

        The pc may be anywhere: in a module's code, in a patch's body.
        """
        saved = np.zeros(words.size, np.bool_)
        saved[:-1] = (words[:-1] & 3 == 0) & self.status(words[1:])
        return saved

    def blockers(self, ranges: Ranges) -> list[Blocker]:
        """Return who is in one of the functions, each thread once per place."""
        found = [*self._of_cpus(ranges)]
        tops = self._tops()
        for thread in self.threads:
            found += self._of_stack(thread, self._top(thread, tops), ranges)
        return found

    def _tops(self) -> list[int]:
        """Return the stack pointers of the CPUs that run the kernel."""
        return [cpu["r1"] for cpu in self.cpus if not self.in_process(cpu["msr"])]

    @staticmethod
    def _top(thread: Thread, tops: Iterable[int]) -> _Top:
        running = next((top for top in tops if thread.stack.start <= top < thread.stack.end), None)
        return _Top(thread.sp, running=False) if running is None else _Top(running, running=True)

    def _of_cpus(self, ranges: Ranges) -> Iterator[Blocker]:
        for number, cpu in enumerate(self.cpus):
            if self.in_process(cpu["msr"]):
                continue
            thread = self.thread_at(cpu["r1"])
            owner = f"CPU {number}" if thread is None else thread.name
            for depth, address in enumerate((cpu["pc"], cpu["lr"])):
                function = ranges.inside(address)
                if function is not None:
                    yield Blocker(function, owner, address, depth)
            if owner == f"CPU {number}":  # on a stack of interrupts
                yield from self._of_interrupts(owner, cpu["r1"], ranges)

    def _of_interrupts(self, owner: str, sp: int, ranges: Ranges) -> Iterator[Blocker]:
        """Look through a stack that is no thread's, and on through the thread's that was interrupted."""
        given_up = [self.word(sp + offset) for offset in self.lr]
        for depth in range(1, _MOST_FRAMES):
            above = self.word(sp)
            thread = None if above is None else self.thread_at(above)
            if thread is not None and above is not None:
                yield from self._of_stack(thread, _Top(above, running=True), ranges)
                return
            if above is None or above % 4 or not sp < above < sp + _PIECE:
                return
            frame = np.frombuffer(self.read(sp, above - sp) or b"", ">u4").astype(np.uint32)
            words, given_up = [*given_up, *(self.word(above + offset) for offset in self.lr)], []
            if self.contexts(frame).any():  # as `_returns`
                words += frame.tolist()
            for address in words:
                function = None if address is None else ranges.inside(address)
                if address is not None and function is not None:
                    yield Blocker(function, owner, address, depth)
            sp = above

    def thread_at(self, sp: int) -> Thread | None:
        """Return the thread whose stack an address is in."""
        return next((thread for thread in self.threads if sp in range(*thread.stack)), None)

    def word(self, address: int) -> int | None:
        """Return the word at an address, or None."""
        data = self.read(address, 4)
        return None if data is None else int.from_bytes(data, "big")

    def returns(self, thread: Thread | None) -> frozenset[int] | None:
        """Return where on a thread's stack words stand that it may return to.

        None, if that is not known: the thread is not, or nobody knows whose a CPU is.
        """
        tops = self._tops()
        if thread is None or not all(map(self.thread_at, tops)):
            return None
        return frozenset(word.at for word in self._returns(self._top(thread, tops), thread.stack))

    def _of_stack(self, thread: Thread, top: _Top, ranges: Ranges) -> Iterator[Blocker]:
        for word in self._returns(top, thread.stack):
            function = ranges.inside(word.value)
            if function is not None:
                yield Blocker(function, thread.name, word.value, word.depth)

    def _returns(self, top: _Top, stack: Window) -> Iterator[_Word]:
        """Yield what may be a return address on a thread's stack, the innermost first.

        A running function may have given up its frame, and not have loaded LR from there. A frame into which
        an exception has put registers is taken word by word: LR of a function that had not saved it is among
        them. So is what is left where the chain of frames breaks off.
        """
        sp, end = top.sp, stack.end
        if not stack.start < sp < end or sp % 4:
            return
        data = self.read(sp, end - sp)
        if data is None:
            return
        words = np.frombuffer(data, ">u4").astype(np.uint32)
        saved = self.contexts(words)
        frame, depth = 0, 0
        given_up = [offset // 4 for offset in self.lr if top.running]
        yield from (_Word(sp + 4 * at, int(words[at]), 0) for at in given_up if at < words.size)
        while depth < _MOST_FRAMES:
            above = (int(words[frame]) - sp) // 4
            if words[frame] % 4 or not frame < above < words.size:
                break
            depth += 1
            slots = [above + offset // 4 for offset in self.lr]
            if saved[frame:above].any():
                slots = sorted({*range(frame, above), *slots})
            yield from (_Word(sp + 4 * at, int(words[at]), depth) for at in slots if at < words.size)
            frame = above
        if saved[frame:].any() or 4 * (words.size - frame) > _TOP:
            left = enumerate(words[frame:].tolist(), frame)
            yield from (_Word(sp + 4 * at, value, depth) for at, value in left)


def stacks_of(
    kernel: RunningGuest,
    cpus: Sequence[GRegisters],
    threads: Sequence[Thread] | None = None,
    read: Callable[[int, int], bytes | None] | None = None,
) -> Stacks:
    """Return what is known of a stopped kernel's stacks, its ``cpus`` being as they are.

    ``threads`` are its threads, where they are known, and ``read`` is what reads its memory then.
    """
    known, cpu = kernel._threads, kernel._cpu
    return Stacks(
        [*known.all()] if threads is None else threads,
        cpus,
        cpu.in_process,
        read or known.read,
        cpu.kernel_status,
        sorted({SYSV.lr_offset, kernel.image.abi.lr_offset}),
    )
