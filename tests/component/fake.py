"""A guest without QEMU: RAM, and a CPU that does nothing but obey the kernel component's orders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import numpy.typing as npt

from kgdbpatch.component import layout
from kgdbpatch.component.arena import field_offset
from kgdbpatch.component.layout import Op, State
from kgdbpatch.cpu.msr import EE, ME
from kgdbpatch.cpu.ppc6xx import stub
from kgdbpatch.cpu.ppc6xx.msr import DR, IR, RI
from kgdbpatch.cpu.ppc6xx.state import STATE
from kgdbpatch.errors import TargetTimeout
from kgdbpatch.personality.base import ModuleId
from kgdbpatch.vm.registers import GRegisters, Layout

__all__ = ["KERNEL", "FakeMachine", "FakeRam", "Flat", "Killed"]

_PIECE = 0x1000
_DONE = stub.CODE.index(b"\x60\0\0\0")  # where the debugger has its breakpoint
KERNEL = EE | ME | IR | DR | RI  # the MSR of a kernel that can be interrupted
_SPECIAL = ("srr0", "ibat0u", "dbat0u", "sdr1")


class FakeRam:
    """Guest RAM; `touched` knows what was written by its pages."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._bytes = np.zeros(size, np.uint8)  # the host gives it as it is used
        self._pages = np.zeros(-(-size // _PIECE), bool)

    def read(self, address: int, size: int) -> bytes:
        assert 0 <= address <= address + size <= self.size, hex(address)
        return self._bytes[address : address + size].tobytes()

    def array(self, address: int, size: int) -> npt.NDArray[np.uint8]:
        assert 0 <= address <= address + size <= self.size, hex(address)
        return self._bytes[address : address + size]

    def touched(self) -> Iterator[tuple[int, int]]:
        edges = np.flatnonzero(np.diff(np.concatenate([[False], self._pages, [False]]))) * _PIECE
        for start, end in edges.reshape(-1, 2).tolist():
            yield start, min(end, self.size)

    def write(self, address: int, data: bytes) -> None:
        assert 0 <= address <= address + len(data) <= self.size, hex(address)
        self._bytes[address : address + len(data)] = np.frombuffer(data, np.uint8)
        self._pages[address // _PIECE : -(-(address + len(data)) // _PIECE)] = True

    def word(self, address: int) -> int:
        return int.from_bytes(self.read(address, 4), "big")

    def put(self, address: int, *words: int) -> None:
        self.write(address, b"".join(word.to_bytes(4, "big") for word in words))


class Flat:
    """A system whose memory lies at its physical addresses, as far as ``end``; who is interrupted goes on."""

    def __init__(self, end: int) -> None:
        self._end = end
        self.modules: set[ModuleId] = set()  # that are loaded
        self.dead: set[int] = set()  # places in stacks that no thread comes back to

    def to_physical(self, address: int) -> int | None:
        return address if address < self._end else None

    def loaded(self) -> frozenset[ModuleId]:
        return frozenset(self.modules)

    def mapped(self, address: int) -> int | None:
        return None

    def may_resume(self, contexts: Iterable[tuple[int, int]], registers: GRegisters) -> list[int]:
        return [pc for at, pc in contexts if at not in self.dead]

    def may_return(self, words: Iterable[tuple[int, int]], cpus: Sequence[GRegisters]) -> list[int]:
        return [word for at, word in words if at not in self.dead]


class Killed(BaseException):
    """The client is dead."""


class FakeMachine:
    """A guest, its debugger and its stopped CPU in one (`ports.Guest`, `ports.Debugger`, `ports.Session`).

    Nothing is executed but the stub, command by command, as stub.S says. The client dies before the
    effect (a write, the start of a call) number ``fuse``; a call that has begun is brought to its end.
    """

    def __init__(self, size: int) -> None:
        self.ram = FakeRam(size)
        self.stays_stopped = False
        self.cpus, self.cpu = 1, 0
        self.layout = Layout({name: (number, 0, 4) for number, name in enumerate(_SPECIAL)})
        self.special = dict.fromkeys(_SPECIAL, 0)
        self.special["sdr1"] = 0x2_0000  # a hashed page table of 64 KiB, empty
        self.pages: dict[int, int] = {}  # what `Op.MAP` has entered
        self.bats = [[0, 0] for _ in range(8)]
        self.decrementer = 0
        self.no_pages = False  # the page table is full
        self.stops = self.resumed = 0
        self.obeyed: list[Op] = []
        self.orders: list[tuple[Op, int, int]] = []  # the same, with two operands
        self.at_stop: Callable[[], None] = lambda: None  # what the guest does just before it is stopped
        self.pause = 0.0
        self.fuse: int | None = None
        self._later: list[Callable[[], None]] = []  # orders put off, as a session does
        self._saved: dict[str, list[tuple[int, bytes]]] = {}
        self._registers = GRegisters(bytes(GRegisters.SIZE))
        self._registers["pc"], self._registers["msr"] = 0x2000, KERNEL

    # ---- the guest and its debugger -----------------------------------------------------------

    def savevm(self, tag: str) -> None:
        self._saved[tag] = [(start, self.ram.read(start, end - start)) for start, end in self.ram.touched()]

    def loadvm(self, tag: str) -> None:
        """Bring all memory back; the decrementer is forgotten, as QEMU does."""
        for start, end in self.ram.touched():
            self.ram.write(start, bytes(end - start))
        for start, data in self._saved[tag]:
            self.ram.write(start, data)

    def select(self, number: int) -> None:
        assert number == 0

    def settable(self, name: str) -> bool:
        return name in self.special

    @contextmanager
    def stopped(self) -> Iterator[FakeMachine]:
        self.stops += 1
        self.at_stop()
        try:
            try:
                yield self
            except Exception:
                self.flush()
                raise
            self.flush()
        finally:
            self._later.clear()
            self._go_home()

    def _go_home(self) -> None:
        """Let a call end that nobody waits for: the stub gives the CPU back."""
        registers = self._registers
        start = self._stub_at()
        if registers["pc"] == start:
            self._obey(registers["r3"])
        if start <= registers["pc"] < start + len(stub.CODE):
            block = np.frombuffer(
                self.ram.read(registers["r3"], layout.CALL_BLOCK.itemsize), layout.CALL_BLOCK
            )
            for name in ("pc", "msr", "cr", "ctr", "lr", "r0"):
                registers[name] = int(block[0][name])
            for number, value in enumerate(block[0]["r3_r12"], start=3):
                registers[f"r{number}"] = int(value)

    def _stub_at(self) -> int:
        return self._registers["r3"] - layout.CALL_OFFSET + layout.STUB_OFFSET

    # ---- the session --------------------------------------------------------------------------

    def effect(self) -> None:
        if self.fuse is not None:
            if not self.fuse:
                self._later.clear()
                raise Killed
            self.fuse -= 1

    def flush(self) -> None:
        while self._later:
            self.effect()
            self._later.pop(0)()

    def read_all(self) -> bytes:
        self.flush()
        return self._registers.raw

    def write_all(self, raw: bytes, *, later: bool = False) -> None:
        self._later.append(partial(self._give, raw))
        if not later:
            self.flush()

    def _give(self, raw: bytes) -> None:
        self._registers = GRegisters(raw)

    def set(self, **registers: int) -> None:
        """Give the stopped CPU's registers other values."""
        for name, value in registers.items():
            self._registers[name] = value

    def register(self, name: str) -> int:
        return self.special[name]

    def set_register(self, name: str, value: int, *, later: bool = False) -> None:
        raise AssertionError("the 6xx is called without")

    def read(self, address: int, size: int) -> bytes:
        raise AssertionError("nothing is mapped here")

    def read_physical(self, address: int, size: int) -> bytes:
        self.flush()
        return self.ram.read(address, size)

    def write_physical(self, address: int, data: bytes, *, later: bool = False) -> None:
        self._later.append(partial(self.ram.write, address, data))
        if not later:
            self.flush()

    def run_to_physical(self, address: int, deadline: float) -> GRegisters:
        self.flush()
        self.effect()
        start = self._stub_at()
        assert (self._registers["pc"], address) == (start, start + _DONE), "only the stub is run here"
        assert self.ram.read(start, len(stub.CODE)) == stub.CODE, "it is not there"
        self._obey(self._registers["r3"])
        self._registers["pc"] = address
        return self._registers

    def run_to(self, address: int, deadline: float) -> GRegisters:
        raise AssertionError("no kernel runs here")

    def run_to_any(self, addresses: Sequence[int], deadline: float) -> GRegisters:
        raise TargetTimeout("no kernel runs here")

    def write(self, address: int, data: bytes) -> None:
        raise AssertionError("nothing is mapped here")

    def step(self, count: int = 1, *, later: bool = False) -> None:
        """Get nowhere."""

    def resume(self) -> None:
        self.flush()
        self.resumed += 1

    def interrupt(self) -> None:
        pass

    def forget(self) -> None:
        pass

    # ---- the stub, as in stub.S ---------------------------------------------------------------

    def _obey(self, block: int) -> None:
        commands, count = self.ram.word(block + 4), self.ram.word(block + 8)
        status = 0
        for number in range(count):
            at = commands + 32 * number
            op, a, b, c = (self.ram.word(at + 4 * n) for n in range(4))
            self.obeyed.append(Op(op))
            self.orders.append((Op(op), a, b))
            result, done, well = self._one(Op(op), a, b, c)
            self.ram.put(at + 16, result, done)
            if not well:
                status = number + 1
                break
        self.ram.put(block, status)

    def _one(self, op: Op, a: int, b: int, c: int) -> tuple[int, int, bool]:
        """Obey one command; return its result, how many parts are done, and whether it went well."""
        if op is Op.SPLICE:
            found = self.ram.word(a)
            if found == b:
                self.ram.put(a, c)
            return found, 0, found == b
        if op in (Op.APPLY, Op.WITHDRAW):
            return self._records(op, a, b)
        if op is Op.BAT:
            found = self.bats[a % 8][0]
            well = a >= 8 or found & 3 == 0 or found == b
            if well:
                self.bats[a % 8] = [b, c]
            return found, 0, well
        if op is Op.MAP:
            if not self.no_pages:
                self.pages[a] = b
            return 0, 0, not self.no_pages
        if op is Op.STORE:
            self.ram.put(a, b)
        elif op is Op.MARK:
            for record in range(a, a + b * layout.RECORD.itemsize, layout.RECORD.itemsize):
                self.ram.put(record, c)
        elif op is Op.DECREMENTER:
            self.decrementer = a
        elif op is Op.STATE:
            self.ram.write(a, self._state())
        else:
            assert op is Op.FLUSH
        return 0, 0, True

    def _records(self, op: Op, at: int, count: int) -> tuple[int, int, bool]:
        found = 0
        for done in range(count):
            site, original, splice = (
                self.ram.word(at + field_offset(name, layout.RECORD))
                for name in ("site_physical", "original", "splice")
            )
            found = self.ram.word(site)
            if op is Op.APPLY:
                if found != original:
                    return found, done, False
                self.ram.put(at, State.PENDING)
                self.ram.put(site, splice)
                self.ram.put(at, State.ACTIVE)
            else:
                if found not in (original, splice):
                    return found, done, False
                self.ram.put(site, original)
                self.ram.put(at, State.RETIRED)
            at += layout.RECORD.itemsize
        return found, count, True

    def _state(self) -> bytes:
        state = np.zeros(1, STATE)
        state["sdr1"], state["dec"] = self.special["sdr1"], self.decrementer
        state["ibat"], state["dbat"] = self.bats[:4], self.bats[4:]
        return state.tobytes()
