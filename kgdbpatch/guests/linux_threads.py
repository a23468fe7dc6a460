"""Find the threads of a Linux kernel without its debugging information: by what ``init_task`` holds.

The idle thread's structure has known contents: the address of its stack, a stack pointer into it,
its name, and the list of all processes. Where they stand in it, they stand in every other one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from kgdbpatch.guests.profile import Thread, Window

__all__ = ["threads"]

_STACK_END_MAGIC = 0x57AC_6E9D  # include/uapi/linux/magic.h: at the end of every stack
_STACK = 0x2000  # bytes of a kernel stack (THREAD_SHIFT 13 on 32-bit PowerPC)
_NAME, _NAME_SIZE = b"swapper", 16
_MOST = 4096

Read = Callable[[int, int], bytes | None]


def threads(read: Read, init_task: int, size: int, init_stack: int) -> Iterator[Thread]:
    """Yield every process's main thread and every kernel thread; none when the structure is another.

    ``read(address, size)`` reads kernel memory; ``size`` is that of a thread's structure in bytes.
    """
    held = read(init_task, size)
    if held is None:
        return
    words = np.frombuffer(held, ">u4").astype(np.int64)
    stacks = np.flatnonzero(words == init_stack)
    pointers = np.flatnonzero((words > init_stack) & (words < init_stack + _STACK))
    name = held.find(_NAME)
    if not (stacks.size and pointers.size) or name < 0:
        return
    stack, sp = 4 * int(stacks[0]), 4 * int(pointers[0])

    def thread(task: int) -> Thread | None:
        data = read(task, size)
        if data is None:
            return None
        low, at = (int.from_bytes(data[place : place + 4], "big") for place in (stack, sp))
        if low % _STACK or read(low, 4) != _STACK_END_MAGIC.to_bytes(4, "big"):
            return None
        text = data[name : name + _NAME_SIZE].split(b"\0")[0].decode(errors="replace")
        return Thread(text, Window(low, low + _STACK), at)

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

    rings = (ring(4 * index) for index in range(words.size) if words[index] % 4 == 0 and words[index])
    yield from max(rings, key=len, default=[])
