"""Call the running kernel's own functions, by a thread that stands where the kernel itself may call them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kgdbpatch.component.kernel_calls import GATE_SIZE, Gate, KernelCalls
from kgdbpatch.errors import Misuse, Refused
from kgdbpatch.personality.base import Window

if TYPE_CHECKING:
    from kgdbpatch.component.ports import Cpu, Debugger
    from kgdbpatch.image import Image
    from kgdbpatch.kernel.running import RunningText
    from kgdbpatch.personality import Personality
    from kgdbpatch.vm.qemu import Qemu

__all__ = ["Calls"]

_DEADLINE = 10.0


class Calls:
    """Calls of one running kernel's functions.

    A process that makes a system call is stopped where it has entered the kernel and holds nothing,
    interrupts on. It calls the function, and goes on with its system call.
    """

    def __init__(
        self,
        qemu: Qemu,
        debugger: Callable[[], Debugger],
        cpu: Cpu,
        personality: Personality,
        image: Image,
        text: RunningText,
    ) -> None:
        self._qemu, self._personality, self._image, self._text = qemu, personality, image, text
        self._cpu = cpu
        physical = personality.memory.announced << 20
        self._component = KernelCalls(qemu, debugger, cpu, physical, text.to_physical)

    def place(self) -> Window | None:
        """Return the code in which a thread may be lent, or None where none is known."""
        return next(iter(self._personality.system_call_entries(self._image)), None)

    def gate(self) -> Gate | None:
        """Return unused words of the kernel's text that a called function may return to, or None."""
        if not self._personality.vectors_executable:
            return None
        at = self._cpu.free_words(self._personality, self._image, GATE_SIZE, self._text.raw_words)
        physical = None if at is None else self._text.to_physical(at)
        return None if at is None or physical is None else Gate(at, physical)

    def possible(self) -> bool:
        """Tell whether this kernel's functions can be called."""
        return self.place() is not None and self.gate() is not None

    def __call__(
        self,
        function: str | int,
        *arguments: int,
        deadline: float = _DEADLINE,
        keeps: tuple[int, Window | None] | None = None,
    ) -> int:
        """Call a function with up to eight words and return what it returns, the low 32 bits.

        The guest must be held (`Qemu.exclusive`). ``keeps`` as for `KernelCalls.call`. Raises `Refused`
        (rule ``memory``) where this kernel cannot be called, `TargetTimeout` when nobody makes a system call,
        or the function does not return, within ``deadline`` seconds.

        >>> calls("nr_free_buffer_pages")
        61325
        """
        address = function if isinstance(function, int) else self._image.resolve(function)
        if not any(address in section for section in self._image.code_sections()) or address % 4:
            raise Misuse(f"{self._image.symbolize(address)} is no code of the kernel's file")
        if not self._qemu.runs():
            raise Misuse(f"guest '{self._qemu.name}' is paused; its kernel runs nothing before 'resume'")
        self._component.prepare()
        place, gate = self.place(), self.gate()
        if place is None:
            raise _impossible("its system calls' entry is not known")
        if gate is None:
            raise _impossible("no words are unused behind its exception vectors")
        return self._component.call(address, arguments, place, gate, deadline, keeps)


def _impossible(why: str) -> Refused:
    return Refused("memory", f"the kernel's functions cannot be called: {why}")
