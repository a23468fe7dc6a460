"""The guest's RAM, mapped read-only: reading it needs neither a stop nor a debugger."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from kgdbpatch.errors import MemoryFault, TargetLost

__all__ = ["Machine", "Ram", "Readable", "Shared", "Traced"]


class Readable(Protocol):
    """Memory by physical address, ``size`` bytes of it."""

    @property
    def size(self) -> int:
        """How many bytes there are."""

    def read(self, address: int, size: int) -> bytes:
        """Return bytes as they are now."""

    def array(self, address: int, size: int) -> npt.NDArray[np.uint8]:
        """Return them as an array, which may go on changing."""


class Traced(Readable, Protocol):
    """Memory that can tell which of its pieces were ever used."""

    def touched(self) -> Iterator[tuple[int, int]]:
        """Yield (start, end) of those pieces; all others are zeros."""


@runtime_checkable
class Shared(Protocol):
    """Memory that is shared with the guest, and may be written while it runs."""

    def write(self, address: int, data: bytes) -> None:
        """Write bytes; those of a word that is aligned at once."""


class Machine(Protocol):
    """What has RAM: `kgdbpatch.vm.qemu.Qemu` is one."""

    @property
    def ram(self) -> Traced:
        """The RAM."""


class Ram:
    """Guest RAM by physical address; ``size`` in bytes. Survives QEMU's end as it was then."""

    live = True  # read while the guest runs

    def __init__(self, path: str, size: int) -> None:
        self.size, self._path = size, path
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise TargetLost(f"the guest's RAM cannot be opened: {error.strerror}: {path}") from error
        try:
            self._map = mmap.mmap(descriptor, size, mmap.MAP_SHARED, mmap.PROT_READ)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    def touched(self) -> Iterator[tuple[int, int]]:
        """Yield (start, end) of what was ever used (holes of the sparse file); of all if that is not told."""
        end = 0
        while end < self.size:
            try:
                start = os.lseek(self._descriptor, end, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # only a hole follows
                    return
                raise
            end = os.lseek(self._descriptor, start, os.SEEK_HOLE)
            yield start, end

    def _check(self, address: int, size: int) -> None:
        if address < 0 or size < 0 or address + size > self.size:
            raise MemoryFault(f"no RAM at physical 0x{address:08x}..0x{address + size:08x}", address)

    def read(self, address: int, size: int) -> bytes:
        """Return a copy of ``size`` bytes; raises `MemoryFault` outside the RAM."""
        self._check(address, size)
        return self._map[address : address + size]

    def write(self, address: int, data: bytes) -> None:
        """Write bytes; of 1, 2, 4 or 8 at a multiple of that, a guest that runs sees all or nothing.

        For data alone: QEMU does not look for changed code. Raises `MemoryFault`, `TargetLost`.
        """
        self._check(address, len(data))
        start = address - address % mmap.ALLOCATIONGRANULARITY
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise TargetLost(f"the guest's RAM cannot be written: {error.strerror}: {self._path}") from error
        try:
            with mmap.mmap(descriptor, address + len(data) - start, offset=start) as memory:
                self._store(memory, address - start, data)
        finally:
            os.close(descriptor)

    @staticmethod
    def _store(memory: mmap.mmap, at: int, data: bytes) -> None:
        size = len(data)
        if size in (2, 4, 8) and at % size == 0:
            np.frombuffer(memory, f"u{size}", 1, at)[0] = np.frombuffer(data, f"u{size}")[0]
        else:
            memory[at : at + size] = data

    def array(self, address: int, size: int) -> npt.NDArray[np.uint8]:
        """Return a live read-only view of ``size`` bytes; raises `MemoryFault` outside the RAM."""
        self._check(address, size)
        return np.frombuffer(self._map, np.uint8, size, address)
