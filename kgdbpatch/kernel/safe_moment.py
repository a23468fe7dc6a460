"""When code may change under a kernel: nobody is in it, neither a CPU nor a thread that will return to it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from kgdbpatch.isa.abi import SYSV
from kgdbpatch.personality.base import Thread
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


class Stacks(NamedTuple):
    """What is known of a stopped kernel's stacks.

    ``read(address, size)`` gives memory, or None. ``text`` is where the kernel's code is. ``status(words)``
    tells which words may be the kernel's MSR. ``lr`` are the offsets at which a
    frame may hold the saved LR, bytes.
    """

    threads: Sequence[Thread]
    cpus: Sequence[GRegisters]
    in_process: Callable[[int], bool]
    read: Callable[[int, int], bytes | None]
    text: range
    status: Callable[[npt.NDArray[np.uint32]], npt.NDArray[np.bool_]]
    lr: Sequence[int]

    def contexts(self, words: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
        """Tell of each word whether it can be the pc that an exception saved, with MSR behind it."""
        near = (words >= self.text.start) & (words < self.text.stop)
        saved = np.zeros(words.size, np.bool_)
        saved[:-1] = near[:-1] & self.status(words[1:])
        return saved

    def blockers(self, ranges: Ranges) -> list[Blocker]:
        """Return who is in one of the functions, each thread once per place."""
        found = [*self._of_cpus(ranges)]
        tops = [cpu["r1"] for cpu in self.cpus if not self.in_process(cpu["msr"])]
        for thread in self.threads:
            low, high = thread.stack
            sp = next((top for top in tops if low <= top < high), thread.sp)
            if low < sp < high:
                found += self._of_stack(thread.name, sp, high, ranges)
        return found

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
        for depth in range(1, _MOST_FRAMES):
            above = self.word(sp)
            thread = None if above is None else self.thread_at(above)
            if thread is not None and above is not None:
                yield from self._of_stack(thread.name, above, thread.stack.end, ranges)
                return
            if above is None or above % 4 or not sp < above < sp + _PIECE:
                return
            for offset in self.lr:
                address = self.word(above + offset)
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

    def _of_stack(self, thread: str, sp: int, end: int, ranges: Ranges) -> Iterator[Blocker]:
        """Walk a thread's frames from the stack pointer on.

        A frame into which an exception has put registers is searched word by word: LR of a function that had
        not saved it is among them. So is what is left where the chain of frames breaks off.
        """
        data = self.read(sp, end - sp)
        if data is None or sp % 4:
            return
        words = np.frombuffer(data, ">u4").astype(np.uint32)
        saved = self.contexts(words)
        frame, depth = 0, 0
        while depth < _MOST_FRAMES:
            above = (int(words[frame]) - sp) // 4
            if words[frame] % 4 or not frame < above < words.size:
                break
            depth += 1
            if saved[frame:above].any():
                yield from self._any_of(thread, words[frame:above], depth, ranges)
            for slot in (above + offset // 4 for offset in self.lr):
                if slot < words.size and (function := ranges.inside(int(words[slot]))) is not None:
                    yield Blocker(function, thread, int(words[slot]), depth)
            frame = above
        rest = words[frame:]
        if saved[frame:].any() or 4 * rest.size > _TOP:
            yield from self._any_of(thread, rest, depth, ranges)

    def _any_of(
        self, thread: str, words: npt.NDArray[np.uint32], depth: int, ranges: Ranges
    ) -> Iterator[Blocker]:
        for address in words.tolist():
            function = ranges.inside(address)
            if function is not None:
                yield Blocker(function, thread, address, depth)


def stacks_of(
    kernel: RunningGuest,
    cpus: Sequence[GRegisters],
    threads: Sequence[Thread] | None = None,
    read: Callable[[int, int], bytes | None] | None = None,
) -> Stacks:
    """Return what is known of a stopped kernel's stacks, its ``cpus`` being as they are.

    ``threads`` are its threads, where they are known, and ``read`` is what reads its memory then.
    """
    sections = kernel.image.code_sections()
    text = range(min(s.address for s in sections), max(s.address + s.size for s in sections))
    known, cpu = kernel._threads, kernel._cpu
    return Stacks(
        [*known.all()] if threads is None else threads,
        cpus,
        cpu.in_process,
        read or known.read,
        text,
        cpu.kernel_status,
        sorted({SYSV.lr_offset, kernel.image.abi.lr_offset}),
    )
