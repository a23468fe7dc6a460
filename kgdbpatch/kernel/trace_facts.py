"""What a trace has to know of a guest: its memory, its clock, its types, its running thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kgdbpatch.errors import BadImage
from kgdbpatch.kernel.trace_stacks import stack_facts
from kgdbpatch.tracing.names import Facts, Word
from kgdbpatch.types import KernelTypes

if TYPE_CHECKING:
    from kgdbpatch.kernel.kernel import Kernel

__all__ = ["end_of_memory", "facts_of", "types_of"]

_HIGHEST = 1 << 32


def types_of(kernel: Kernel) -> KernelTypes | None:
    """Return the types of a kernel, None where nothing tells of them."""
    try:
        return KernelTypes.of(kernel.image)
    except BadImage:
        return None


def facts_of(kernel: Kernel, types: KernelTypes | None) -> Facts:
    """Return what a trace has to know of a guest."""
    image, personality = kernel.image, kernel._personality
    low = max(min(segment.address for segment in image.segments), 0x1000)
    high = end_of_memory(low, lambda address: personality.stack_physical(image, address) is not None)
    hz = kernel._recipe.machine.timebase_hz
    known = set() if types is None else {*types.index["struct"]}
    words = personality.current_thread(image, lambda name: name in known, kernel._threads.read)
    current = {name: Word(*word) for name, word in words.items()}
    base = current.pop("stack", None)
    return Facts(
        kernel.qemu.cpus(),
        low,
        high,
        round((1_000_000_000 << 20) / hz) if hz else 0,
        current,
        image.abi.name == "sysv",
        stack_facts(kernel, None if base is None else base.c),
        image.knows,
    )


def end_of_memory(low: int, inside: Callable[[int], bool]) -> int:
    """Return where the memory that begins at ``low`` ends."""
    if not inside(low):
        return low
    step, high = 1 << 31, low
    while step >= 0x1000:
        if high + step < _HIGHEST and inside(high + step - 1):
            high += step
        step //= 2
    return high
