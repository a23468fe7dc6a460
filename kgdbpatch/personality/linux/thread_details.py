"""What a Linux kernel notes of its threads beyond their stacks: numbers and states, found by what they hold.

Where they stand in ``struct task_struct`` no two configurations agree; but the first threads have known
numbers (swapper is 0, init 1, kthreadd 2), and the state stands before the stack (include/linux/sched.h).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kgdbpatch.personality.base import Personality, SavedContext, Thread, ThreadDetail, Window
from kgdbpatch.personality.linux.configuration import linear_offset
from kgdbpatch.personality.linux.threads import kernel_layout, room

if TYPE_CHECKING:
    from kgdbpatch.image import Image

__all__ = ["LinuxThreads", "thread_details"]

Read = Callable[[int, int], bytes | None]

_FIRST = 3  # threads whose numbers are known
_MOST = 1 << 22  # processes (include/linux/threads.h: PID_MAX_LIMIT)
# include/linux/sched.h: the bits of a state, the lowest first, in the words of ps(1)'s manual
_STATES = ("sleeping", "uninterruptible", "stopped", "traced", "dead", "zombie", "parked", "dead")
_NOLOAD = 0x400 | 0x2  # TASK_IDLE: uninterruptible, and no load
_SWITCHES, _SCHEDULER = ("__switch_to", "_switch"), ("__sched_text_start", "__sched_text_end")
_BEHIND = (4, 8)  # bytes from the state to the stack


def thread_details(read: Read, threads: Sequence[Thread], size: int, stack: int) -> Sequence[ThreadDetail]:
    """Return number, process and state of each thread, as far as they are found.

    ``size`` is that of a thread's structure, ``stack`` the offset of its stack's address there.
    """
    held = [read(thread.address, size & ~3) for thread in threads]
    if not held or None in held:
        return [ThreadDetail()] * len(threads)
    words = np.array([np.frombuffer(one or b"", ">u4") for one in held]).astype(np.int64)
    at, state = _numbers(words), _state(words, stack // 4)
    found = []
    for row in words.tolist():
        number, process = (row[at], row[at + 1]) if at is not None else (None, None)
        found.append(ThreadDetail(number, process, "" if state is None else _text(row[state])))
    return found


def _numbers(words: npt.NDArray[np.int64]) -> int | None:
    """Return which word is the thread's number; the next one is its process's."""
    if len(words) <= _FIRST:
        return None
    known = np.all(words[:_FIRST, :-1] == np.arange(_FIRST)[:, None], axis=0)
    known &= np.all(words[:, :-1] < _MOST, axis=0) & np.all(words[:, 1:] <= words[:, :-1], axis=0)
    known &= np.all(words[:_FIRST, 1:] == words[:_FIRST, :-1], axis=0)
    for index in np.flatnonzero(known).tolist():
        if len(set(words[:, index].tolist())) == len(words):
            return int(index)
    return None


def _state(words: npt.NDArray[np.int64], stack: int) -> int | None:
    """Return which word is the state: most threads sleep, the first one runs."""
    for behind in _BEHIND:
        column = words[:, stack - behind // 4]
        asleep = np.isin(column & 0xFFFF, (1, 2, _NOLOAD, _NOLOAD | 0x1000))
        if column[0] == 0 and 2 * int(asleep.sum()) > len(column) and bool((column < 1 << 16).all()):
            return stack - behind // 4
    return None


def _text(state: int) -> str:
    if state & _NOLOAD == _NOLOAD:
        return "idle"
    return next((text for bit, text in enumerate(_STATES) if state >> bit & 1), "runnable")


class LinuxThreads(Personality):
    """What is to be known of threads beyond their stacks."""

    context = SavedContext(lr=144, first=16)  # struct pt_regs

    def thread_details(self, image: Image, read: Read, threads: Sequence[Thread]) -> Sequence[ThreadDetail]:
        """Return number, process and state of each thread."""
        layout, known = kernel_layout(image, read), image.symbols.last(("init_task",))
        if layout is None:
            return super().thread_details(image, read, threads)
        return thread_details(read, threads, room(image, known["init_task"]), layout.stack)

    def thread_on(
        self, image: Image, read: Read, threads: Sequence[Thread], register: Callable[[str], int]
    ) -> Thread | None:
        """Return the thread of r2 in the kernel, else of SPRG3, which holds a physical address on 6xx."""
        task = image.symbols.last(("init_task",)).get("init_task")
        size = 0 if task is None else room(image, task)
        inside, kept = register("r2"), register("sprg3")
        for place in (inside, kept, kept + linear_offset(image)):
            for thread in threads:
                if thread.address <= place < thread.address + size:
                    return thread
        return None

    def scheduler(self, image: Image) -> Sequence[Window]:
        """Return the section of the scheduler's functions, and those that switch stacks."""
        known = image.symbols.last((*_SWITCHES, *_SCHEDULER))
        around = (image.function_at(known[name].address) for name in _SWITCHES if name in known)
        windows = [Window(one.address, one.end) for one in around if one is not None]
        ends = [known[name].address for name in _SCHEDULER if name in known]
        return [*windows, Window(*ends)] if len(ends) == len(_SCHEDULER) else windows
