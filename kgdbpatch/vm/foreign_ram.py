"""The RAM of a guest that somebody else started: no file of ours holds it, so it is read where it is.

In QEMU's own memory, which neither stops the guest nor asks anybody; or by QEMU's monitor, which writes it
to a file; or by stops of the debugger. What is read is a copy of that moment.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kgdbpatch.errors import CommandFailed, MemoryFault, TargetLost

if TYPE_CHECKING:
    from kgdbpatch.vm.attached import AttachedQemu

__all__ = ["MonitorRam", "ProcessRam", "StoppedRam"]

_PAGE = os.sysconf("SC_PAGE_SIZE")
_USED = 0b11 << 62  # of an entry of pagemap (proc(5)): the page is in memory, or swapped out
_ENTRY = 8  # bytes
_BLOCK, _MOST = 1 << 16, 1 << 20  # bytes that a stop reads at least, and from which on nothing is kept
_ROW = 1 << 20  # bytes that are asked for at a time
_FRESH = 1.0  # seconds


class _Copied:
    """RAM by physical address, ``size`` bytes of it, each read of which is a copy."""

    live = True  # whether it is read while the guest runs

    def __init__(self, qemu: AttachedQemu, size: int) -> None:
        self._qemu, self.size = qemu, size

    def read(self, address: int, size: int) -> bytes:
        """Return a copy of ``size`` bytes; raises `MemoryFault` outside the RAM."""
        if address < 0 or size < 0 or address + size > self.size:
            raise MemoryFault(f"no RAM at physical 0x{address:08x}..0x{address + size:08x}", address)
        return self._copy(address, size) if size else b""

    def forget(self) -> None:
        """Keep nothing of what was read; here, nothing is kept."""

    def close(self) -> None:
        """Let go of what was opened, until it is needed again; here, that is nothing."""

    def array(self, address: int, size: int) -> npt.NDArray[np.uint8]:
        """Return ``size`` bytes as an array; it does not change. Raises `MemoryFault` outside the RAM."""
        return np.frombuffer(self.read(address, size), np.uint8)

    def touched(self) -> Iterator[tuple[int, int]]:
        """Yield (start, end) of all: what was never used is not known."""
        yield 0, self.size

    def _copy(self, address: int, size: int) -> bytes:
        raise NotImplementedError


class ProcessRam(_Copied):
    """RAM in the memory of a process of this user's, from ``start`` on (proc(5), ``mem`` and ``pagemap``)."""

    def __init__(self, qemu: AttachedQemu, start: int, size: int) -> None:
        super().__init__(qemu, size)
        self._start, self._memory = start, -1
        self._opened()

    def _opened(self) -> int:
        if self._memory < 0:
            try:
                self._memory = os.open(f"/proc/{self._qemu.pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                if not self._qemu.alive():
                    raise self._qemu.lost() from None
                told = f"the memory of process {self._qemu.pid} cannot be opened: {error.strerror}"
                raise TargetLost(told) from error
        return self._memory

    def close(self) -> None:
        """Close the process's memory until it is read again."""
        memory, self._memory = self._memory, -1
        if memory >= 0:
            os.close(memory)

    def __del__(self) -> None:
        if hasattr(self, "_memory"):
            self.close()

    def _copy(self, address: int, size: int) -> bytes:
        parts, left, memory = [], size, self._opened()
        try:
            while left:
                part = os.pread(memory, left, self._start + address + size - left)
                if not part:  # the process has no memory any more
                    raise self._qemu.lost()
                parts.append(part)
                left -= len(part)
        except OSError as error:
            if not self._qemu.alive():
                raise self._qemu.lost() from None
            raise TargetLost(f"the memory of process {self._qemu.pid}: {error.strerror}") from error
        return b"".join(parts)

    def touched(self) -> Iterator[tuple[int, int]]:
        """Yield (start, end) of the pieces that were ever used; of all where that is not told."""
        raw = b""
        with suppress(OSError), Path(f"/proc/{self._qemu.pid}/pagemap").open("rb", buffering=0) as pages:
            pages.seek(self._start // _PAGE * _ENTRY)
            raw = pages.read(self.size // _PAGE * _ENTRY)
        if self._start % _PAGE or self.size % _PAGE or len(raw) != self.size // _PAGE * _ENTRY:
            yield 0, self.size
            return
        used = (np.frombuffer(raw, np.uint64) & np.uint64(_USED) != 0).astype(np.int8)
        edges = np.flatnonzero(np.diff(used, prepend=0, append=0)).reshape(-1, 2) * _PAGE
        yield from ((start, end) for start, end in edges.tolist())


class _ByStops(_Copied):
    """RAM that a stop may be needed for: what was read just before is not read again.

    While a debugger has the guest stopped anyway, it is.
    """

    live = False

    def __init__(self, qemu: AttachedQemu, size: int) -> None:
        super().__init__(qemu, size)
        self._kept: dict[int, tuple[float, bytes]] = {}  # block ─► when it was read, and what it held

    def forget(self) -> None:
        """Read everything anew: the guest was stopped, and perhaps written to."""
        self._kept.clear()

    def read(self, address: int, size: int) -> bytes:
        """Return a copy of ``size`` bytes, which may be a second old; or `MemoryFault`, outside the RAM."""
        if self.live or self._qemu.stopped_now or not size or size > _MOST:
            return super().read(address, size)
        first, last = address // _BLOCK, (address + size - 1) // _BLOCK
        oldest = time.monotonic() - _FRESH
        if any(self._kept.get(block, (-math.inf,))[0] < oldest for block in range(first, last + 1)):
            start, end = first * _BLOCK, min((last + 1) * _BLOCK, self.size)
            data, now = super().read(start, max(end, address + size) - start), time.monotonic()
            for block in range(first, last + 1):
                self._kept[block] = now, data[(block - first) * _BLOCK :][:_BLOCK]
        held = b"".join(self._kept[block][1] for block in range(first, last + 1))
        return held[address - first * _BLOCK :][:size]


class MonitorRam(_ByStops):
    """RAM as QEMU's monitor writes it to a file in the guest's directory (``pmemsave``)."""

    def __init__(self, qemu: AttachedQemu, size: int) -> None:
        super().__init__(qemu, size)
        self.live = bool(qemu.attachment.qmp)

    def _copy(self, address: int, size: int) -> bytes:
        path = self._qemu.directory / f"memory-{os.getpid()}"
        try:
            if self.live:
                self._qemu.qmp("pmemsave", val=address, size=size, filename=str(path))
            else:
                said = self._qemu.hmp_while_stopped(f'pmemsave {address:#x} {size:#x} "{path}"').strip()
                if said:
                    raise CommandFailed(f"QEMU refuses pmemsave: {said}")
            data = path.read_bytes()
        except FileNotFoundError:
            raise TargetLost("QEMU writes its files where they are not seen from here (pmemsave)") from None
        except OSError as error:
            raise TargetLost(f"what QEMU writes cannot be read (pmemsave): {error.strerror}") from error
        finally:
            with suppress(OSError):
                path.unlink()
        if len(data) != size:
            raise TargetLost(f"QEMU wrote {len(data)} bytes of memory, not {size} (pmemsave)")
        return data


class StoppedRam(_ByStops):
    """RAM as the debugger reads it: the guest stands still meanwhile, if it does not already."""

    def _copy(self, address: int, size: int) -> bytes:
        with self._qemu.looking() as session:  # in rows that each come to their end before GDB's deadline
            rows = range(address, address + size, _ROW)
            return b"".join(session.peek_physical(at, min(_ROW, address + size - at)) for at in rows)
