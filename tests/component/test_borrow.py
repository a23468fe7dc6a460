"""Memory from the kernel's allocator: whoever dies when, it is found again, and given back once."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest

from kgdbpatch.component import layout
from kgdbpatch.component.borrow import Borrower, without_anchors
from kgdbpatch.component.kernel_calls import GATE_SIZE, Gate
from kgdbpatch.component.layout import CallStatus
from kgdbpatch.cpu.kernel_call import LinearCaller
from kgdbpatch.cpu.ppc6xx import Ppc6xx
from kgdbpatch.errors import Refused, TargetBusy, TargetTimeout
from kgdbpatch.personality.base import KernelCall, Window
from kgdbpatch.vm.registers import GRegisters

from .fake import KERNEL, FakeMachine, Killed

MIB = 1 << 20
SIZE = 2 * MIB
ENTRY = Window(0x2000, 0x2100)  # of system calls
STACK = 0x8000
SP = STACK + 0x1F00
GATES = [Gate(0x10C0, 0x10C0), Gate(0x11C0, 0x11C0)]
ALLOCATE, FREE = KernelCall(0x3000, (0, 9)), 0x3004
_CODE = layout.KERNEL_CALL_CODE_OFFSET - layout.KERNEL_CALL_OFFSET


class Lending(FakeMachine):
    """A kernel with one block of memory to give; a call returns at the next stop but ``slow``."""

    def __init__(self) -> None:
        super().__init__(8 * MIB)
        self.blocks, self.slow = {4 * MIB}, 0
        self.lent: set[int] = set()
        self.ram.write(4 * MIB, b"\x5a" * layout.BASELINE_OFFSET)  # what was there before
        self.set(pc=0x2000, msr=KERNEL, r1=SP)
        self.called = 0  # the physical address of a call's block that is under way

    def borrower(self, stack: int = 0, cpu: Ppc6xx | None = None) -> Borrower:
        same = lambda address: address  # noqa: E731 - virtual addresses are physical ones here
        at = lambda address: address + stack  # noqa: E731
        return Borrower(self, lambda: self, cpu or Ppc6xx(), lambda: GATES, at, lambda: 0x2000, same)

    def borrow(self, deadline: float = 1.0) -> int | None:
        found = self.borrower().borrow(ALLOCATE, SIZE, ENTRY, deadline)
        return None if found is None else found.memory

    def give_back(self, deadline: float = 1.0) -> None:
        found = self.borrower().settled()
        assert found is not None
        self.borrower().give_back(found, KernelCall(FREE, (found.memory, 9)), ENTRY, deadline)

    @property
    def gates(self) -> bytes:
        return b"".join(self.ram.read(gate.physical, GATE_SIZE) for gate in GATES)

    # ---- the kernel ---------------------------------------------------------------------------

    def run_to(self, address: int, deadline: float) -> GRegisters:
        self.flush()
        self.effect()
        self.set(pc=address, msr=KERNEL, r1=SP)
        return GRegisters(self.read_all())

    def read(self, address: int, size: int) -> bytes:
        return self.read_physical(address, size)

    def write(self, address: int, data: bytes) -> None:
        self.write_physical(address, data)

    def resume(self) -> None:
        super().resume()
        self._go_on()

    def _go_home(self) -> None:
        self._go_on()

    def _go_on(self) -> None:
        """Let the thread call the function, as kernel_call.S has it."""
        registers = GRegisters(self.read_all())
        if not registers["msr"] & KERNEL & 0x30 and not self.called:
            self.called = registers["pc"] - _CODE
            assert self.ram.read(registers["pc"], len(Ppc6xx.call_code)) == Ppc6xx.call_code
            block = self._block()
            assert int(block["stack"]) <= self.called - 0x100, "what lies there would be overwritten"
            self.ram.put(int(block["answer"]), CallStatus.CALLED)
            self.set(pc=int(block["pc"]), msr=int(block["msr"]))
        if not self.called:
            return
        if self.slow:
            self.slow -= 1
            return
        block = self._block()
        arguments = block["arguments"].tolist()
        if int(block["function"]) == ALLOCATE.function:
            result = self.blocks.pop() if self.blocks else 0
            self.lent |= {result} - {0}
        else:
            assert int(block["function"]) == FREE
            self.lent.remove(arguments[0])  # it is freed once
            self.blocks.add(arguments[0])
            result = 0
        answer = int(block["answer"])
        self.ram.put(answer + 4, result, 0)
        self.ram.put(answer, CallStatus.RETURNED)
        self.ram.write(STACK, bytes(0x2000))  # the thread has gone on: its stack is another's
        self.called = 0

    def _block(self) -> np.void:
        raw = self.ram.read(self.called, layout.KERNEL_CALL.itemsize)
        block: np.void = np.frombuffer(raw, layout.KERNEL_CALL)[0]
        return block


def unused(text: bytes) -> bytes:
    """Return the kernel's text as it was built."""
    for gate in GATES:
        text = text[: gate.physical] + bytes(GATE_SIZE) + text[gate.physical + GATE_SIZE :]
    return text


def test_what_is_borrowed_is_found_and_given_back() -> None:
    kernel = Lending()
    assert kernel.borrow() == 4 * MIB
    found = kernel.borrower().anchor()
    assert found is not None
    assert (found.memory, found.size, found.state) == (4 * MIB, SIZE, CallStatus.NONE)
    assert not any(kernel.ram.read(4 * MIB, layout.BASELINE_OFFSET)), (
        "nothing of the component's stands there"
    )
    kernel.give_back()
    assert (kernel.lent, kernel.blocks) == (set(), {4 * MIB})
    assert not any(kernel.gates)


def test_a_kernel_that_has_none() -> None:
    kernel = Lending()
    kernel.blocks.clear()
    assert kernel.borrow() is None
    assert not any(kernel.gates)


def test_words_in_use_are_left_alone() -> None:
    kernel = Lending()
    kernel.ram.put(GATES[0].physical + 60, 1)
    kernel.borrow()
    found = kernel.borrower().anchor()
    assert found is not None
    assert found.gate == GATES[1]
    kernel.give_back()
    kernel.ram.put(GATES[1].physical, 1)
    with pytest.raises(Refused, match="no words are unused"):
        kernel.borrow()


@pytest.mark.parametrize("sp", [STACK + 0x600, STACK + 0x1240, STACK + 0x1100, STACK + 0x1000])
def test_a_call_is_written_down_within_one_page_and_the_stack(sp: int) -> None:
    """The thread may have come to any depth; its stack is as good as empty where a system call begins."""
    kernel = Lending()
    kernel.set(r1=sp)

    def run_to(address: int, deadline: float) -> GRegisters:
        kernel.set(pc=address, r1=sp)
        return GRegisters(kernel.read_all())

    kernel.run_to = run_to  # type: ignore[method-assign]
    if sp < STACK + 0x1000:
        with pytest.raises(Refused, match="has no room"):
            kernel.borrow()
    else:
        assert kernel.borrow() == 4 * MIB


def test_a_stack_that_is_elsewhere_than_it_was_said_to_be() -> None:
    """What lies there is somebody's."""
    kernel = Lending()
    kernel.ram.write(MIB, b"\x5a" * MIB)
    before = kernel.ram.read(MIB, MIB)
    with pytest.raises(Refused, match="is not at physical"):
        kernel.borrower(MIB).borrow(ALLOCATE, SIZE, ENTRY, 1.0)
    assert kernel.ram.read(MIB, MIB) == before
    assert not any(kernel.gates)


class Mapped(Ppc6xx):
    """A CPU that cannot run without its MMU."""

    def before_memory(self, shift: int) -> LinearCaller:
        return LinearCaller(shift)


def test_a_stack_in_which_nothing_can_be_executed() -> None:
    """The first instruction is not: the CPU is where exceptions enter."""
    kernel = Lending()
    kernel.run_to(ENTRY.start, 1.0)
    at_the_entry = kernel.read_all()

    def faults(count: int = 1, *, later: bool = False) -> None:
        assert GRegisters(kernel.read_all())["msr"] & 0x8030 == 0
        kernel.set(pc=0x400, msr=0)

    kernel.step = faults  # type: ignore[method-assign]
    with pytest.raises(Refused, match=r"does not let the stack at 0x0000.* be executed"):
        kernel.borrower(cpu=Mapped()).borrow(ALLOCATE, SIZE, ENTRY, 1.0)
    assert kernel.read_all() == at_the_entry
    assert not any(kernel.gates)
    assert not kernel.lent


def test_one_that_takes_its_time_is_taken_by_the_next() -> None:
    kernel = Lending()
    kernel.slow = 1 << 30
    with pytest.raises(TargetTimeout, match="has not returned"):
        kernel.borrow(deadline=0)
    with pytest.raises(AssertionError):
        kernel.borrow()  # one at a time
    with pytest.raises(TargetBusy, match="not yet returned"):
        kernel.borrower().settled(deadline=0)
    kernel.slow = 3
    found = kernel.borrower().settled()
    assert found is not None
    assert found.memory == 4 * MIB
    kernel.give_back()
    assert not kernel.lent


@pytest.mark.parametrize("giving_back", [False, True])
@pytest.mark.parametrize("slow", [0, 2])
def test_a_client_that_dies_at_any_point_leaves_what_is_found(giving_back: bool, slow: int) -> None:
    deaths = 0
    for fuse in count():
        kernel = Lending()
        if giving_back:
            kernel.borrow()
        kernel.fuse, kernel.slow = fuse, slow
        try:
            kernel.give_back(deadline=0) if giving_back else kernel.borrow(deadline=0)
        except (Killed, TargetTimeout):
            deaths += 1
        over, kernel.fuse = bool(kernel.fuse), None
        text = kernel.ram.read(0, STACK)
        assert without_anchors(text) == unused(text)
        found = kernel.borrower().settled()
        assert kernel.lent == ({found.memory} if found else set())
        kernel.slow = 0
        if found is None:
            assert not any(kernel.gates)
            assert kernel.borrow() == 4 * MIB
        kernel.give_back()
        assert (kernel.lent, kernel.blocks) == (set(), {4 * MIB})
        assert not any(kernel.gates)
        if over:
            break
    assert deaths > 5


def test_an_anchor_behind_a_large_text_is_not_the_kernels() -> None:
    kernel = Lending()
    kernel.borrow()
    text = bytes(MIB) + kernel.ram.read(0, STACK)
    assert any(text)
    assert without_anchors(text) == bytes(MIB) + unused(kernel.ram.read(0, STACK))


@pytest.mark.parametrize(
    "words",
    [
        {36: b"kgdb"},  # a name and nothing
        {36: b"kgdb_connected\0", 60: b"\1"},
        {0: b"\x60", 36: b"kgdb", 56: b"\0\x40\0\0"},  # the kernel's own code before it
        {36: b"kgdb", 56: b"\0\x50\0\0"},  # what no allocator gives
        {36: b"kgdb\0\0\0\7", 56: b"\0\x40\0\0"},
        {36: b"kgdb\0\0\0\2", 56: b"\0\x40\0\0"},  # a call without a gate
    ],
)
def test_what_is_no_anchor_stays_in_a_copy(words: dict[int, bytes]) -> None:
    kernel = Lending()
    for at, data in words.items():
        kernel.ram.write(GATES[0].physical + at, data)
    text = kernel.ram.read(0, STACK)
    assert without_anchors(text) == text
    assert without_anchors(text[: GATES[0].physical + 50]) == text[: GATES[0].physical + 50]
    assert kernel.borrower().anchor() is None
