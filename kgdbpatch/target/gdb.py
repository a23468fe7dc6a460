"""The debugger: stop the guest, look, change, let it go; every stop is one connection."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kgdbpatch.errors import CommandFailed, MemoryFault, Misuse, TargetLost, TargetTimeout
from kgdbpatch.target.mi import Gdb, Reply
from kgdbpatch.target.qemu import Qemu
from kgdbpatch.target.registers import GRegisters, Layout

__all__ = ["Debugger", "GRegisters", "Session"]

_REMOTE_TIMEOUT = 5  # seconds GDB waits for an answer of QEMU; QEMU answers within microseconds
_DEADLINE = 30.0  # seconds we wait for GDB, which tries three times
_INLINE = 64  # bytes that go through MI itself; more go through a file that GDB shares
_PHYSICAL_ON, _PHYSICAL_OFF = "Qqemu.PhyMemMode:1", "Qqemu.PhyMemMode:0"
_RECEIVED = re.compile(r'received: "(.*)"', re.DOTALL)
_RAW = re.compile(r'[^"\\\n]+')
_WRITE_FAILED = "memory write failed"
_INTERRUPTED = "T02"  # SIGINT: nothing in the guest but somebody outside stopped it


def _packet(text: str) -> str:
    return f'-interpreter-exec console "maint packet {text}"'


def _received(reply: Reply) -> str:
    found = _RECEIVED.search(reply.checked().text)
    if found is None:
        raise TargetLost(f"GDB got no answer to a packet: {reply.text.strip()!r}")
    return found[1]


def _ok(reply: Reply, what: str) -> None:
    answer = _received(reply)
    if answer != "OK":
        raise CommandFailed(f"QEMU refuses {what} (answer {answer!r})")


class Debugger:
    """GDB for one guest, started at once and kept; connected only while the guest is stopped.

    >>> with Debugger(qemu) as debugger, debugger.stopped() as session:
    ...     hex(session.registers()["pc"])
    """

    def __init__(self, qemu: Qemu) -> None:
        self._qemu = qemu
        self._share = os.memfd_create("kgdbpatch-transfer", os.MFD_CLOEXEC)
        self._gdb = self._new_gdb()
        self._layout: Layout | None = None
        self.pause = 0.0  # seconds of the last stop, from before connecting until resumed

    def _new_gdb(self) -> Gdb:
        settings = (f"architecture {self._qemu.architecture}", f"remotetimeout {_REMOTE_TIMEOUT}")
        return Gdb(self._qemu, settings, [self._share])

    @contextmanager
    def stopped(self) -> Iterator[Session]:
        """Stop the guest, yield a session, resume the guest, also on errors.

        A guest that a killed debugger left stopped goes on afterwards too; breakpoints that it
        left are gone. Raises `TargetLost` quoting QEMU or GDB when one of them ends.
        """
        if not self._qemu.alive():
            raise self._qemu.lost()
        if not self._gdb.alive():
            self._gdb.close()
            self._gdb = self._new_gdb()
        self._gdb.start(_DEADLINE)
        started = time.perf_counter()
        try:
            with self._connected() as session:
                yield session
        finally:
            self.pause = time.perf_counter() - started

    @contextmanager
    def _connected(self) -> Iterator[Session]:
        session = Session(self._qemu, self._gdb, self._share)
        try:
            session.connect()
            session.layout = self._layout = self._layout or self._learn()
            yield session
        except BaseException:
            # The first error is the one to report; an unanswering GDB must not keep the guest.
            try:
                session.detach()
            except TargetLost:
                self._gdb.close()
            raise
        session.detach()

    def _learn(self) -> Layout:
        """Return the layout of the registers; QEMU's description is read once a guest."""
        path = self._qemu.directory / "registers.json"
        layout = Layout.load(path)
        if layout is None:
            (table,) = self._gdb.ask(
                '-interpreter-exec console "maint print remote-registers"', deadline=_DEADLINE
            )
            layout = Layout.parse(table.checked().text)
            layout.save(path)
        for name, offset in GRegisters.OFFSETS.items():
            if layout.places[name][1:] != (offset, 4):
                raise TargetLost(
                    f"QEMU describes register {name} at {layout.places[name]}: an unknown layout"
                )
        return layout

    @contextmanager
    def logged(self, path: Path) -> Iterator[None]:
        """Have GDB log the packets of the connections made meanwhile (``packets.packets_sent``)."""
        setting = "-gdb-set remotelogfile"
        self._gdb.ask(f"{setting} {path}", deadline=_DEADLINE)[0].checked()
        try:
            yield
        finally:
            self._gdb.ask(f"{setting} {os.devnull}", deadline=_DEADLINE)[0].checked()  # none cannot be set

    @property
    def gdb_pid(self) -> int:
        """GDB's process id."""
        return self._gdb.pid

    def close(self) -> None:
        """End GDB; the guest goes on."""
        self._gdb.close()
        if self._share >= 0:
            os.close(self._share)
            self._share = -1

    def __enter__(self) -> Debugger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Session:
    """A stopped guest. What one method does is done wholly even when this process is killed in it."""

    layout: Layout

    def __init__(self, qemu: Qemu, gdb: Gdb, share: int) -> None:
        self._qemu, self._gdb, self._share = qemu, gdb, share
        self._physical = False  # addresses in packets are physical ones
        self._running = False
        self._later: list[tuple[str, Callable[[Reply], None]]] = []  # orders put off, checks of their replies
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
        return [_received(reply) for reply in self._ask(*map(_packet, texts))]

    def _ask(self, *commands: str, deadline: float = _DEADLINE) -> list[Reply]:
        """Have GDB execute what was put off and ``commands``, all in one go; return the latter's replies."""
        if self._running:
            raise Misuse("the guest runs; interrupt it first")
        later, self._later, self._shared = self._later, [], 0
        replies = self._gdb.ask(*(order for order, _ in later), *commands, deadline=deadline)
        for (_, check), reply in zip(later, replies, strict=False):
            check(reply)
        return replies[len(later) :]

    def connect(self) -> None:
        """Connect, which stops the guest."""
        connected, reset = self._gdb.ask(
            f"-target-select remote {self._qemu.gdb_socket}", _packet(_PHYSICAL_OFF), deadline=_DEADLINE
        )
        connected.checked()
        _ok(reset, "virtual addresses")
        self._running = False

    def detach(self) -> None:
        """Disconnect; the guest goes on."""
        if self._running:
            return
        commands = [_packet(_PHYSICAL_OFF)] if self._physical else []
        self._physical = False
        for reply in self._ask(*commands, "-target-detach"):
            reply.checked()
        self._running = True

    # ---- registers -----------------------------------------------------------------------

    def read_all(self) -> bytes:
        """Return all general registers as one block (see `GRegisters`)."""
        return self._block(self.packet("g"))

    @staticmethod
    def _block(answer: str) -> bytes:
        try:
            return bytes.fromhex(answer)
        except ValueError:
            raise TargetLost(f"QEMU's answer to g is {answer[:40]!r}") from None

    def write_all(self, raw: bytes, *, later: bool = False) -> None:
        """Set all general registers at once, in one packet; ``later`` as for `write_physical`."""
        self._later.append(
            (_packet(f"G{GRegisters(raw).raw.hex()}"), lambda reply: _ok(reply, "the registers"))
        )
        if not later:
            self._ask()

    def registers(self) -> dict[str, int]:
        """Return r0..r31, pc, msr, cr, lr, ctr and xer by name."""
        return GRegisters(self.read_all()).as_dict()

    def register(self, name: str) -> int:
        """Return one register, special ones (``srr0``, ``dbat0u``) included, as QEMU names it."""
        answer = self.packet(f"p{self.layout.number(name):x}")
        try:
            return int(answer, 16)
        except ValueError:
            raise CommandFailed(f"QEMU refuses to read register {name} (answer {answer!r})") from None

    # ---- memory --------------------------------------------------------------------------

    def _mode(self, physical: bool) -> list[str]:
        """Return the commands that make packets' addresses physical, or virtual again."""
        if physical == self._physical:
            return []
        self._physical = physical
        return [_packet(_PHYSICAL_ON if physical else _PHYSICAL_OFF)]

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

    def _read(self, address: int, size: int, *, physical: bool) -> bytes:
        self._check(address, size)
        if not size:
            return b""
        through_file = size > _INLINE
        if through_file:
            order = f"dump binary memory {self._file} {address:#x} {address + size:#x}"
            order = f'-interpreter-exec console "{order}"'
        else:
            order = f"-data-read-memory-bytes {address:#x} {size}"
        *switch, reply = self._ask(*self._mode(physical), order)
        for answer in switch:
            _ok(answer, "the kind of address")
        self._check_access(reply, address, size, physical=physical)
        if through_file:
            data = os.pread(self._share, size, 0)
        else:
            pieces = reply.payload.get("memory")
            assert isinstance(pieces, list)
            data = b"".join(bytes.fromhex(piece["contents"]) for piece in pieces)
        if len(data) != size:
            raise MemoryFault(f"only {len(data)} of {size} bytes can be read at 0x{address:08x}", address)
        return data

    def write(self, address: int, data: bytes) -> None:
        """Write memory as the CPU maps it now, whatever its protection; `MemoryFault` where unmapped."""
        self._write(address, data, physical=False)

    def write_physical(self, address: int, data: bytes, *, later: bool = False) -> None:
        """Write physical memory; ``later``: together with what is asked of GDB next, which fails for it."""
        self._write(address, data, physical=True, later=later)

    def _write(self, address: int, data: bytes, *, physical: bool, later: bool = False) -> None:
        self._check(address, len(data))
        if not data:
            return
        if address < self._shared:
            self._ask()
        for switch in self._mode(physical):
            self._later.append((switch, lambda reply: _ok(reply, "the kind of address")))
        if len(data) > _INLINE:
            start, self._shared = self._shared, self._shared + len(data)
            os.ftruncate(self._share, start)
            os.pwrite(self._share, data, start)
            span = f"{address - start:#x} {start} {self._shared}"  # a byte's place in the file is added
            order = f'-interpreter-exec console "restore {self._file} binary {span}"'
        else:
            order = f"-data-write-memory-bytes {address:#x} {data.hex()}"

        def check(reply: Reply) -> None:
            self._check_access(reply, address, len(data), physical=physical)

        self._later.append((order, check))
        if not later:
            self._ask()

    @property
    def _file(self) -> str:
        return f"/proc/self/fd/{self._share}"

    @staticmethod
    def _check_access(reply: Reply, address: int, size: int, *, physical: bool) -> None:
        complaint = reply.error
        if complaint is None and _WRITE_FAILED in reply.text:  # "restore" only warns
            complaint = reply.text.strip().splitlines()[-1]
        if complaint is not None:
            if "memory" not in complaint:
                reply.checked()
            kind = "physical" if physical else "mapped"
            where = f"0x{address:08x}..0x{address + size:08x}"
            raise MemoryFault(f"no {kind} memory at {where} (GDB: {complaint})", address)

    @staticmethod
    def _check(address: int, size: int) -> None:
        if address < 0 or size < 0 or address + size > 1 << 32:
            raise Misuse(f"not an address range: {address:#x} + {size:#x}")

    # ---- running -------------------------------------------------------------------------

    def run_to_physical(self, address: int, deadline: float) -> GRegisters:
        """Let the CPU run untranslated code until it reaches ``address``; return its registers there.

        The CPU's pc and msr must have been set so that it gets there. A CPU that naps (it was
        stopped with MSR[POW] set) runs nothing before its next interrupt. Errors as for `run_to`.
        """
        return self.run_to(address, deadline)

    def run_to(self, address: int, deadline: float) -> GRegisters:
        """Let the guest run until its pc is ``address``; return the registers there.

        ``deadline`` is rounded up to whole seconds; then the guest is stopped where it is and
        `TargetTimeout` raised.
        """
        seconds = max(1, math.ceil(deadline))
        place = f"1,{address:x},4"
        _, set_, ran, cleared, _, state = self._ask(
            f"-gdb-set remotetimeout {seconds}",  # GDB's impatience itself stops a running guest
            _packet(f"Z{place}"),
            _packet("vCont;c"),
            _packet(f"z{place}"),
            f"-gdb-set remotetimeout {_REMOTE_TIMEOUT}",
            _packet("g"),
            deadline=seconds + _DEADLINE,
        )
        _ok(set_, f"a breakpoint at 0x{address:08x}")
        stop = _received(ran)
        _ok(cleared, "to remove a breakpoint")
        registers = GRegisters(self._block(_received(state)))
        where = f"it is at 0x{registers['pc']:08x}, msr 0x{registers['msr']:08x}"
        if stop.startswith(_INTERRUPTED):
            raise TargetTimeout(f"the guest did not reach 0x{address:08x} within {seconds} s; {where}")
        if registers["pc"] != address:
            raise TargetLost(f"the guest stopped ({stop}) before it reached 0x{address:08x}; {where}")
        return registers

    def resume(self) -> None:
        """Let the guest run until `interrupt`.

        GDB is disconnected meanwhile: one that is ended while its guest runs can leave it stopped.
        """
        if self._running:
            raise Misuse("the guest runs already")
        self.detach()

    def interrupt(self) -> None:
        """Stop the guest again after `resume`."""
        if not self._running:
            raise Misuse("the guest is stopped already")
        self.connect()
