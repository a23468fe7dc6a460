"""A stopped guest: its CPUs' registers, its memory, and how it goes on by some instructions."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from kgdbpatch.errors import CommandFailed, Misuse, TargetLost, TargetTimeout
from kgdbpatch.vm.answers import block, memory, ok
from kgdbpatch.vm.registers import WIDE_SIZE, GRegisters, Layout, narrowed, widened

if TYPE_CHECKING:
    from kgdbpatch.vm.gdb_process import Gdb
    from kgdbpatch.vm.qemu import Qemu

__all__ = ["DEADLINE", "PATIENCE", "Session"]

PATIENCE = 10  # seconds GDB waits for an answer of QEMU, which most often comes within microseconds
DEADLINE = 40.0  # seconds we wait for GDB, which tries three times
_PIECE = 1920  # bytes of memory in one packet
_BULK = 1 << 15  # bytes from which on GDB itself takes them from a file that we share
_PHYSICAL_ON, _PHYSICAL_OFF = "Qqemu.PhyMemMode:1", "Qqemu.PhyMemMode:0"
_LOOKS = "gmpq"  # what packets begin with that change nothing
_RAW = re.compile(r"(?!:)[!-~ ]+")
_RUN = "vCont;c"
_CPU = re.compile(r"^CPU#\d+\s*$", re.MULTILINE)
_REFUSAL = re.compile(r"E[0-9a-f]{2}")
_INTERRUPTED = "T02"  # SIGINT: nothing in the guest but somebody outside stopped it


class Session:
    """A stopped guest. What one method does is done wholly even when this process is killed in it."""

    layout: Layout

    def __init__(self, qemu: Qemu, gdb: Gdb, share: int) -> None:
        self._qemu, self._gdb, self._share = qemu, gdb, share
        self._physical = False  # addresses in packets are physical ones
        self._running = False
        self.stays_stopped = False  # it was paused, and is to be so afterwards
        self._cpu = 0  # whose registers are meant
        self._general: bytes | None = None  # its general registers, as far as they are known
        self._wide = False  # QEMU shows them with 64 bits
        self._later: list[tuple[str, Callable[[str], None]]] = []  # orders put off, checks of their answers
        self._shared = 0  # bytes of the shared file that orders put off still need

    # ---- raw -----------------------------------------------------------------------------

    def packet(self, text: str) -> str:
        """Send one raw packet and return QEMU's answer."""
        return self.packets(text)[0]

    def packets(self, *texts: str) -> list[str]:
        """Send raw packets in a row and return QEMU's answers."""
        for text in texts:
            if not _RAW.fullmatch(text):
                raise Misuse(f"not a packet: {text!r}")
        answers = self._ask(*texts)
        if not all(text[0] in _LOOKS for text in texts):
            self._general = None
        return answers

    def commands(self, *texts: str) -> list[str]:
        """Have GDB carry out commands of its console in a row, and return what they print."""
        self._general = None
        return self._ask(*(f":{text}" for text in texts))

    def _ask(self, *orders: str, deadline: float = 0.0) -> list[str]:
        """Have GDB carry out what was put off and ``orders`` in one go; return the latter's answers.

        After ``deadline`` seconds, when it is not 0, the guest is stopped.
        """
        if self._running:
            raise Misuse("the guest runs; interrupt it first")
        later, self._later, self._shared = self._later, [], 0
        row = [*(packet for packet, _ in later), *orders]
        if not row:
            return []
        overdue = (deadline, self._stop) if deadline else None
        answers = self._gdb.ask(*row, deadline=deadline + DEADLINE, overdue=overdue)
        for (_, check), answer in zip(later, answers, strict=False):
            check(answer or "")
        if None in answers:
            raise TargetLost(f"QEMU did not answer the packet {row[answers.index(None)][:40]!r}")
        return [answer or "" for answer in answers[len(later) :]]

    def _stop(self) -> None:
        """Stop a guest that runs while GDB waits for it, which GDB does not notice otherwise."""
        with suppress(TargetLost, Misuse):  # GDB itself loses its patience, or says what was lost
            self._qemu.qmp("stop")

    def connect(self) -> None:
        """Connect, which stops the guest."""
        self._running, self._cpu = False, 0
        _, reset, state = self._ask(f":target remote {self._socket()}", _PHYSICAL_OFF, "g")
        ok("virtual addresses", reset)
        self._know(state)

    def _socket(self) -> str:
        """Return the path of QEMU's GDB server as seen from GDB, which takes one with a colon for TCP."""
        path = self._qemu.gdb_socket
        return path.name if path.parent == self._qemu.directory else str(path)

    def leave(self, *, paused: bool = False) -> None:
        """Disconnect; the guest goes on, or stands still where it is to be ``paused``."""
        if paused and self._running:
            self._qemu.qmp("stop")
        if self._running:
            return
        orders = [_PHYSICAL_OFF] if self._physical else []
        self._physical = False
        self._ask(*orders, ":disconnect" if paused else ":detach")
        self._running = True

    # ---- CPUs ----------------------------------------------------------------------------

    @property
    def cpus(self) -> int:
        """How many CPUs the guest has; all of them stand still."""
        return len(self.layout.threads)

    @property
    def cpu(self) -> int:
        """The number of the CPU that is meant by registers, addresses and steps."""
        return self._cpu

    def select(self, number: int) -> None:
        """Mean another CPU from now on: at first it is number 0, or the one that came where it was to."""
        if number != self._cpu:
            self._later.append((f"Hg{self.layout.threads[number]}", partial(ok, f"CPU {number}")))
            self._cpu, self._general = number, None

    def _alone(self, order: str) -> str:
        """Return the packet by which the CPU that is meant runs, and no other."""
        return order if self.cpus == 1 else f"{order}:{self.layout.threads[self._cpu]}"

    # ---- registers -----------------------------------------------------------------------

    def read_all(self) -> bytes:
        """Return all general registers as one block (see `GRegisters`)."""
        if self._general is None:
            self._know(self.packet("g"))
        assert self._general is not None
        return self._general

    def _know(self, state: str) -> bytes:
        """Note the general registers by the answer to ``g``; return them."""
        raw = block(state)
        self._wide, self._general = len(raw) == WIDE_SIZE, narrowed(raw)
        return self._general

    def forget(self) -> None:
        """Ask anew for registers: the guest was changed by others than this session."""
        self._general = None

    def write_all(self, raw: bytes, *, later: bool = False) -> None:
        """Set all general registers at once, in one packet; ``later`` as for `write_physical`."""
        raw = GRegisters(raw).raw
        self._later.append((f"G{(widened(raw) if self._wide else raw).hex()}", partial(ok, "the registers")))
        self._general = None
        if not later:
            self._ask()

    def registers(self) -> dict[str, int]:
        """Return r0..r31, pc, msr, cr, lr, ctr and xer by name."""
        return GRegisters(self.read_all()).as_dict()

    def register(self, name: str) -> int:
        """Return one register, special ones (``srr0``, ``dbat0u``) included, as QEMU names it."""
        answer = self.packet(f"p{self.layout.number(name):x}")
        if _REFUSAL.fullmatch(answer) and self._cpu:
            return self._told(name)
        try:
            return int(_REFUSAL.sub("none", answer), 16) & (0xFFFF_FFFF if self._wide else -1)
        except ValueError:
            raise CommandFailed(f"QEMU refuses to read register {name} (answer {answer!r})") from None

    def settable(self, name: str) -> bool:
        """Tell whether `set_register` serves for a register of the CPU that is meant."""
        return not _REFUSAL.fullmatch(self.packet(f"p{self.layout.number(name):x}"))

    def _told(self, name: str) -> int:
        """Return a register of another CPU than the first, by what QEMU's monitor says.

        QEMU's GDB server (7.2) knows special registers of the first one alone.
        """
        parts = _CPU.split(self.monitor("info registers -a"))[1:]
        match = re.search(rf"\b{name.upper()} +([0-9a-f]+)", (parts + [""] * self.cpus)[self._cpu])
        if match is None:
            raise CommandFailed(f"QEMU does not tell register {name} of CPU {self._cpu}")
        return int(match[1], 16) & 0xFFFF_FFFF

    def set_register(self, name: str, value: int, *, later: bool = False) -> None:
        """Set one register, special ones included; ``later`` as for `write_physical`."""
        number, _, size = self.layout.places[name]
        self._later.append((f"P{number:x}={value:0{2 * size}x}", partial(ok, f"register {name}")))
        self._general = None
        if not later:
            self._ask()

    # ---- memory --------------------------------------------------------------------------

    def _mode(self, physical: bool) -> None:
        """Make packets' addresses physical, or virtual again."""
        if physical != self._physical:
            self._physical = physical
            order = _PHYSICAL_ON if physical else _PHYSICAL_OFF
            self._later.append((order, partial(ok, "the kind of address")))

    def read(self, address: int, size: int) -> bytes:
        """Read memory as the CPU maps it now; raises `MemoryFault` where it maps nothing."""
        return self._read(address, size, physical=False)

    def read_physical(self, address: int, size: int) -> bytes:
        """Read physical memory; RAM is read without asking QEMU."""
        if address >= 0 and address + size <= self._qemu.ram.size:
            if self._later:
                self._ask()
            return self._qemu.ram.read(address, size)
        return self._read(address, size, physical=True)

    def peek_physical(self, address: int, size: int) -> bytes:
        """Read physical memory by asking QEMU for it."""
        return self._read(address, size, physical=True)

    def monitor(self, text: str) -> str:
        """Execute a command of QEMU's human monitor and return what it says."""
        return self._ask(f":monitor {text}")[0].replace("\r\n", "\n")

    def _read(self, address: int, size: int, *, physical: bool) -> bytes:
        self._check(address, size)
        self._mode(physical)
        starts = range(address, address + size, _PIECE)
        spans = [(start, min(_PIECE, address + size - start)) for start in starts]
        answers = self._ask(*(f"m{start:x},{length:x}" for start, length in spans))
        for (start, length), answer in zip(spans, answers, strict=True):
            memory(start, length, physical, answer)
        return bytes.fromhex("".join(answers))

    def write(self, address: int, data: bytes) -> None:
        """Write memory as the CPU maps it now, whatever its protection; `MemoryFault` where unmapped."""
        self._write(address, data, physical=False)

    def write_physical(self, address: int, data: bytes, *, later: bool = False) -> None:
        """Write physical memory; ``later``: together with what is asked of GDB next, which fails for it."""
        self._write(address, data, physical=True, later=later)

    def _write(self, address: int, data: bytes, *, physical: bool, later: bool = False) -> None:
        self._check(address, len(data))
        if address < self._shared:
            self._ask()
        self._mode(physical)
        check = partial(memory, address, len(data), physical)
        if len(data) >= _BULK:
            self._later.append((self._restore(address, data), check))
        else:
            for start in range(0, len(data), _PIECE):
                piece = data[start : start + _PIECE]
                self._later.append((f"M{address + start:x},{len(piece):x}:{piece.hex()}", check))
        if not later:
            self._ask()

    def _restore(self, address: int, data: bytes) -> str:
        """Put data into the shared file; return GDB's command that takes it from there."""
        start, self._shared = self._shared, self._shared + len(data)
        os.ftruncate(self._share, start)
        os.pwrite(self._share, data, start)
        file = f"/proc/self/fd/{self._share}"
        return f":restore {file} binary {address - start:#x} {start} {self._shared}"  # it adds the place

    @staticmethod
    def _check(address: int, size: int) -> None:
        if address < 0 or size < 0 or address + size > 1 << 32:
            raise Misuse(f"not an address range: {address:#x} + {size:#x}")

    # ---- running -------------------------------------------------------------------------

    def run_to_physical(self, address: int, deadline: float) -> GRegisters:
        """As `run_to`, but of one CPU, untranslated, the others standing still.

        Its pc and msr are set so that it gets there; one that naps runs nothing before its next interrupt.
        """
        return self._run_to([address], deadline, self._alone(_RUN))

    def run_to(self, address: int, deadline: float) -> GRegisters:
        """Let the guest run until a CPU's pc is ``address``; return its registers; it is meant then.

        After ``deadline`` (whole seconds) the guest is stopped where it is, and `TargetTimeout` raised.
        """
        return self.run_to_any([address], deadline)

    def run_to_any(self, addresses: Sequence[int], deadline: float) -> GRegisters:
        """As `run_to`, until it is one of ``addresses``."""
        return self._run_to(addresses, deadline, _RUN)

    def _run_to(self, addresses: Sequence[int], deadline: float, order: str) -> GRegisters:
        seconds = max(1, math.ceil(deadline))
        places, wanted = [f"1,{at:x},4" for at in addresses], " or ".join(f"0x{at:08x}" for at in addresses)
        answers = self._ask(  # GDB itself loses its patience when nobody is left who stops the guest
            f":set remotetimeout {seconds + 1}",
            *(*(f"Z{place}" for place in places), order, *(f"z{place}" for place in places), "g"),
            f":set remotetimeout {PATIENCE}",
            deadline=seconds,
        )
        count = len(places)
        for set_, cleared in zip(answers[1 : 1 + count], answers[2 + count : 2 + 2 * count], strict=True):
            ok(f"a breakpoint at {wanted}", set_)
            ok("to remove a breakpoint", cleared)
        stop, state = answers[1 + count], answers[-2]
        self._cpu = self.layout.stopped(stop, self._cpu)
        registers = GRegisters(self._know(state))
        where = f"it is at 0x{registers['pc']:08x}, msr 0x{registers['msr']:08x}"
        if stop.startswith(_INTERRUPTED):
            raise TargetTimeout(f"the guest did not reach {wanted} within {seconds} s; {where}")
        if registers["pc"] not in addresses:
            raise TargetLost(f"the guest stopped ({stop}) before it reached {wanted}; {where}")
        return registers

    def step(self, count: int = 1, *, later: bool = False) -> None:
        """Let one CPU execute so many instructions; interrupts, and other CPUs, wait meanwhile.

        ``later`` as for `write_physical`: together with what gives the CPU its registers back.
        """
        orders = [self._alone("vCont;s")] * count
        self._general = None
        if later:
            self._later += [(order, lambda answer: None) for order in orders]
            return
        self._ask(*orders, deadline=float(PATIENCE))

    def resume(self) -> None:
        """Let the guest run until `interrupt`, without GDB: one that is ended could leave it stopped."""
        if self._running:
            raise Misuse("the guest runs already")
        self.leave()

    @property
    def running(self) -> bool:
        """Whether the guest runs: between `resume` and `interrupt`."""
        return self._running

    def interrupt(self) -> None:
        """Stop the guest again after `resume`."""
        if not self._running:
            raise Misuse("the guest is stopped already")
        self.connect()
