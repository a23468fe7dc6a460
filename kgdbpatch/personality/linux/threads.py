"""Find the threads of a Linux kernel without its debugging information: by what ``init_task`` holds.

The idle thread's structure has known contents: the address of its stack, a stack pointer into it,
its name, and the list of all processes. Where they stand in it, they stand in every other one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kgdbpatch.personality.base import Memory, Thread, Window

if TYPE_CHECKING:
    from kgdbpatch.image import Image, Symbol

__all__ = [
    "STACK",
    "Current",
    "Read",
    "current",
    "kernel_layout",
    "kernel_threads",
    "may_resume",
    "room",
    "threads",
]

_TASK = '({ unsigned long kgt_task; __asm__("mr %0,2" : "=r"(kgt_task)); kgt_task; })'  # the running thread's
_TYPED = f"((struct task_struct *){_TASK})"

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


Current = dict[str, tuple[str, str, tuple[str, ...]]]


def current(layout: Layout | None, *, typed: bool) -> Current:
    """Return C that tells of the running thread; without types its name is where ``layout`` has it."""
    found: Current = {"curtask": (_TASK, "address", ())}
    if layout is not None:
        found["stack"] = (f"*(unsigned long *)({_TASK} + {layout.stack})", "address", ())
    if typed:
        found |= {"comm": (f"{_TYPED}->comm", "name", ()), "pid": (f"{_TYPED}->tgid", "word", ())}
        found["tid"] = (f"{_TYPED}->pid", "word", ())
    elif layout is not None:
        found["comm"] = (f"((const char *)({_TASK} + {layout.name}))", "name", ())
    return found


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


class _Task(NamedTuple):
    """A thread's structure: where it is, what it holds, what it says."""

    address: int
    data: bytes
    thread: Thread


def threads(read: Read, init_task: int, size: int, init_stack: int) -> Iterator[Thread]:
    """Yield the threads of every process and of the kernel; none when the structure is another.

    ``read(address, size)`` reads kernel memory; ``size`` is that of a thread's structure in bytes.
    """
    layout = thread_layout(read, init_task, size, init_stack)
    if layout is None:
        return

    def task_at(address: int) -> _Task | None:
        data = read(address, size)
        if data is None:
            return None
        low, at = (int.from_bytes(data[place : place + 4], "big") for place in (layout.stack, layout.sp))
        if low % STACK or read(low, 4) != _MAGIC:
            return None
        text = data[layout.name : layout.name + _NAME_SIZE].split(b"\0")[0].decode(errors="replace")
        return _Task(address, data, Thread(text, Window(low, low + STACK), at, address))

    def ring(offset: int) -> list[_Task]:
        """Return the threads on the list whose links stand at ``offset``; none when it is no such list."""
        found, at, seen = [], init_task + offset, set[int]()
        while at not in seen and len(seen) < _MOST:
            seen.add(at)
            one = task_at(at - offset)
            link = read(at, 4)
            if link is None or (one is None and read(at - offset + layout.stack, 4) != bytes(4)):
                return []
            found += [] if one is None else [one]  # who has ended has no stack, and awaits its parent
            at = int.from_bytes(link, "big")
            if at == init_task + offset:
                return found
        return []

    leaders = max((ring(at) for at in layout.links), key=len, default=[])
    yield from (one.thread for one in leaders)
    node = _group_link(read, leaders)
    for leader in leaders if node is not None else ():
        yield from (one.thread for one in _others(read, leader, node or 0, task_at))


def _alone(read: Read, task: _Task, offset: int) -> bool:
    """Tell whether at ``offset`` stand a list's links in which nothing is but that and a head elsewhere."""
    links = task.data[offset : offset + 8]
    head, own = int.from_bytes(links[:4], "big"), task.address + offset
    if links[:4] != links[4:] or head % 4 or head in (0, own):
        return False
    return read(head, 8) == 2 * own.to_bytes(4, "big")


def _group_link(read: Read, leaders: Sequence[_Task]) -> int | None:
    """Return the offset of the links between the threads of one process, None where it is not found.

    Nearly all of the kernel's own threads are alone: their links lead to a head in what is the process's,
    and back. Of no other list is each of so many the only one.
    """
    if not leaders:
        return None
    found = [at for at in range(0, len(leaders[0].data) - 7, 4) if _alone(read, leaders[0], at)]
    counted = {at: sum(_alone(read, one, at) for one in leaders) for at in found}
    best = max(counted, key=lambda at: counted[at], default=None)
    return best if best is not None and 2 * counted[best] > len(leaders) else None


def _others(read: Read, leader: _Task, node: int, task_at: Callable[[int], _Task | None]) -> Iterator[_Task]:
    """Yield the other threads of a process, by the links at ``node``; the head is no thread's."""
    start = leader.address + node
    at = int.from_bytes(leader.data[node : node + 4], "big")
    for _ in range(_MOST):
        if at == start:
            return
        one = task_at(at - node)
        if one is not None:
            yield one
        link = read(at, 4)
        if link is None:
            return
        at = int.from_bytes(link, "big")


def kernel_threads(image: Image, read: Read) -> Iterator[Thread]:
    """Yield the threads of every process and of the kernel, as `threads`."""
    known = image.symbols.last(("init_task", "init_stack"))
    if len(known) == 2:
        task = known["init_task"]
        yield from threads(read, task.address, room(image, task), known["init_stack"].address)


def kernel_layout(image: Image, read: Read) -> Layout | None:
    """Return the layout of a kernel's threads, or None when it cannot be understood."""
    known = image.symbols.last(("init_task", "init_stack"))
    if len(known) < 2:
        return None
    task = known["init_task"]
    return thread_layout(read, task.address, room(image, task), known["init_stack"].address)


def room(image: Image, symbol: Symbol) -> int:
    """Return how large a symbol's object is: up to the next symbol where none is told (kallsyms)."""
    addresses, _ = image.symbols.places()
    behind = addresses[addresses > symbol.address]
    return symbol.size or (int(behind.min()) - symbol.address if behind.size else 0)
