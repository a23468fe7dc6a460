"""Find the threads of a Linux kernel without its debugging information: by what ``init_task`` holds.

The idle thread's structure has known contents: the address of its stack, a stack pointer into it,
its name, and the list of all processes. Where they stand in it, they stand in every other one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from kgdbpatch.personality.base import Memory, Thread, Window

__all__ = ["STACK", "Layout", "may_resume", "thread_layout", "threads"]

_MAGIC = (0x57AC_6E9D).to_bytes(4, "big")  # include/uapi/linux/magic.h: at the end of every stack
STACK = 0x2000  # bytes of a kernel stack (THREAD_SHIFT 13 on 32-bit PowerPC)
_NAME, _NAME_SIZE = b"swapper", 16
_MOST = 4096

Read = Callable[[int, int], bytes | None]


class Layout(NamedTuple):
    """Offsets in a thread's structure: its stack, the stack pointer it left when it last slept, its name.

    ``links`` are those of what may be links of lists.
    """

    stack: int
    sp: int
    name: int
    links: tuple[int, ...] = ()


def thread_layout(read: Read, init_task: int, size: int, init_stack: int) -> Layout | None:
    """Return the layout by what ``init_task`` holds, or None when it cannot be understood."""
    held = read(init_task, size)
    if held is None:
        return None
    words = np.frombuffer(held[: size & ~3], ">u4").astype(np.int64)
    stacks = np.flatnonzero(words == init_stack)
    pointers = np.flatnonzero((words > init_stack) & (words < init_stack + STACK))
    name = held.find(_NAME)
    if not (stacks.size and pointers.size) or name < 0 or read(init_stack, 4) != _MAGIC:
        return None
    links = 4 * np.flatnonzero((words != 0) & (words % 4 == 0))
    return Layout(4 * int(stacks[0]), 4 * int(pointers[0]), name, tuple(links.tolist()))


def may_resume(memory: Memory, layout: Layout, interrupts: Sequence[int], place: int, sp: int | None) -> bool:
    """Tell whether a thread may come back to the interrupted context at ``place``.

    ``interrupts`` are the starts of the stacks that interrupts run on, ``sp`` the CPU's stack
    pointer, None when it runs a process. Every thread's stack has a mark at its end, and a structure
    somewhere that says where it is and, while the thread sleeps, how deep it is; the list of
    processes need not be trusted for that.
    """
    stack = place & -STACK

    def marked(start: int) -> bool:
        return start not in interrupts and memory.read(start, 4) == _MAGIC

    if sp is not None and (sp & -STACK == stack or not marked(sp & -STACK)):
        return True  # on the running thread's stack, or nobody knows which one that is
    if not marked(stack):
        return False
    for at in memory.find(stack):
        word = memory.read(at - layout.stack + layout.sp, 4)
        left_at = None if word is None else int.from_bytes(word, "big")
        if left_at is not None and stack < left_at <= place:
            return True
    return False


def threads(read: Read, init_task: int, size: int, init_stack: int) -> Iterator[Thread]:
    """Yield every process's main thread and every kernel thread; none when the structure is another.

    ``read(address, size)`` reads kernel memory; ``size`` is that of a thread's structure in bytes.
    """
    layout = thread_layout(read, init_task, size, init_stack)
    if layout is None:
        return

    def thread(task: int) -> Thread | None:
        data = read(task, size)
        if data is None:
            return None
        low, at = (int.from_bytes(data[place : place + 4], "big") for place in (layout.stack, layout.sp))
        if low % STACK or read(low, 4) != _MAGIC:
            return None
        text = data[layout.name : layout.name + _NAME_SIZE].split(b"\0")[0].decode(errors="replace")
        return Thread(text, Window(low, low + STACK), at)

    def ring(offset: int) -> list[Thread]:
        """Return the threads on the list whose links stand at ``offset``; none when it is no such list."""
        found, at = [], init_task + offset
        for _ in range(_MOST):
            one = thread(at - offset)
            link = read(at, 4)
            if one is None or link is None:
                return []
            found.append(one)
            at = int.from_bytes(link, "big")
            if at == init_task + offset:
                return found
        return []

    rings = (ring(at) for at in layout.links)
    yield from max(rings, key=len, default=[])
