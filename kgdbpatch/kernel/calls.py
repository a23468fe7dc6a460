"""Call the running kernel's own functions, by a thread that stands where the kernel itself may call them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kgdbpatch.component.kernel_calls import GATE_SIZE, Gate, KernelCalls
from kgdbpatch.component.layout import CALL_ARGUMENTS_OFFSET, CALL_ARGUMENTS_ROOM, GATE_OFFSET
from kgdbpatch.errors import Misuse, Refused
from kgdbpatch.personality.base import Window

if TYPE_CHECKING:
    from kgdbpatch.component.ports import Cpu, Debugger
    from kgdbpatch.component.stop import Stop
    from kgdbpatch.image import Image
    from kgdbpatch.kernel.running import RunningText
    from kgdbpatch.personality import Personality
    from kgdbpatch.vm.qemu import Qemu

__all__ = ["Calls"]

_DEADLINE = 10.0
_ALIGNMENT = 8  # bytes: of strings


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
        self._component = KernelCalls(qemu, debugger, cpu, personality.memory.arena_at, self._to_physical)

    @property
    def low(self) -> int:
        """What the last function called had in r4: the lower half of 64 bits."""
        return self._component.low

    def place(self) -> Window | None:
        """Return the code in which a thread may be lent, or None where none is known."""
        return next(iter(self._personality.system_call_entries(self._image)), None)

    def gates(self) -> list[Gate]:
        """Return where in the kernel's text words are unused by it, which a called function may return to."""
        if not self._personality.vectors_executable:
            return []
        places = self._cpu.gates(self._personality, self._image, GATE_SIZE)
        return [Gate(at, physical) for at in places if (physical := self._text.to_physical(at)) is not None]

    def gate(self) -> Gate | None:
        """Return the first of them that is free, or None."""
        free = (gate for gate in self.gates() if not self._text.raw_words(gate.virtual, GATE_SIZE // 4).any())
        return next(free, self._gate_in_arena())

    def _gate_in_arena(self) -> Gate | None:
        """Return one in the component's memory, where bodies are executed at all of its addresses."""
        header = self._text.header()
        if header is None or header.arena.springboards is None:
            return None
        return Gate(header.arena.virtual + GATE_OFFSET, header.arena.physical + GATE_OFFSET)

    def _to_physical(self, address: int) -> int | None:
        """Return where a gate is in RAM."""
        own = self._gate_in_arena()
        if own is not None and own.virtual == address:
            return own.physical
        return self._text.to_physical(address)

    def with_strings(self, arguments: Sequence[int | bytes]) -> tuple[list[int], bytes]:
        """Return a call's words, and what those point to that stand for C strings; the component is there."""
        header, words, pointed = self._text.header(), list[int](), b""
        for argument in arguments:
            if isinstance(argument, int):
                words.append(argument)
                continue
            assert header is not None
            words.append(header.arena.virtual + CALL_ARGUMENTS_OFFSET + len(pointed))
            pointed += argument + bytes(_ALIGNMENT - len(argument) % _ALIGNMENT)
        if len(pointed) > CALL_ARGUMENTS_ROOM:
            raise Misuse(f"the strings take {len(pointed)} bytes: a call has room for {CALL_ARGUMENTS_ROOM}")
        return words, pointed

    def own(self, address: int, *arguments: int, deadline: float = _DEADLINE) -> int:
        """Call a function of a patch's, as `__call__` does the kernel's."""
        place, gate = self._ready()
        return self._component.call(address, arguments, place, gate, deadline)

    def alone(self, stop: Stop, address: int, *arguments: int, deadline: float = _DEADLINE) -> int:
        """Call a patch's function by the thread that `Stop.to_place` has found, while all else stands still.

        As `KernelCalls.call_alone`.
        """
        return self._component.call_alone(stop.session, address, arguments, self._ready()[1], deadline)

    def _ready(self) -> tuple[Window, Gate]:
        """Return where a thread is lent, and a gate; `Refused` (rule ``memory``) where there is none."""
        place, gate = self.place(), self.gate()
        if place is None:
            raise _impossible("its system calls' entry is not known")
        if gate is None:
            raise _impossible("no words are unused behind its exception vectors")
        return place, gate

    def prepare(self) -> None:
        """Write what calls need into the guest, or raise `Refused` where this kernel cannot be called."""
        self._ready()
        self._component.prepare()

    def possible(self) -> bool:
        """Tell whether this kernel's functions can be called."""
        return self.place() is not None and self.gate() is not None

    def settle(self) -> None:
        """End what is left of a call that a dead client began; `TargetBusy` while the kernel is in it."""
        self._component.settle()

    def __call__(
        self,
        function: str | int,
        *arguments: int,
        deadline: float = _DEADLINE,
        keeps: tuple[int, Window | None] | None = None,
        pointed: bytes = b"",
        own: bool = False,
    ) -> int:
        """Call a function with up to eight words and return what it returns, the low 32 bits.

        The guest must be held (`Qemu.exclusive`). ``keeps`` and ``pointed`` as for `KernelCalls.call`;
        ``own``: it is a patch's function. Raises `Refused` (rule ``memory``) where this kernel cannot be
        called, `TargetTimeout` when nobody makes a system call, or the function does not return, within
        ``deadline`` seconds.

        >>> calls("nr_free_buffer_pages")
        61325
        """
        address = function if isinstance(function, int) else self._image.resolve(function)
        known = own or any(address in section for section in self._image.code_sections())
        if not known or address % 4:
            raise Misuse(f"{self._image.symbolize(address)} is no code of the kernel's file")
        if not self._qemu.runs():
            raise Misuse(f"guest '{self._qemu.name}' is paused; its kernel runs nothing before 'resume'")
        self._component.prepare()
        place, gate = self._ready()
        return self._component.call(address, arguments, place, gate, deadline, keeps, pointed)


def _impossible(why: str) -> Refused:
    return Refused("memory", f"the kernel's functions cannot be called: {why}")
