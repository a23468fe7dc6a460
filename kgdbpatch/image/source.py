"""A kernel's file: its SHA-256, remembered as long as nobody writes to it, and its bytes when asked for."""

from __future__ import annotations

import hashlib
import os
import time
import weakref
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from kgdbpatch import store
from kgdbpatch.errors import BadImage

__all__ = ["Held", "KernelFile"]

_ROOM = "files"
_PIECE = 1 << 20  # bytes
_SETTLED = 2 * 10**9  # ns; a file that was written to later may be so again with the same time


class KernelFile:
    """A file, open for reading; raises `BadImage` where that cannot be."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a FIFO is no kernel
        except OSError as error:
            raise self._unreadable(error) from error
        except ValueError as error:  # a NUL in the name
            raise BadImage(repr(str(path)), str(error)) from error
        weakref.finalize(self, os.close, self._descriptor)
        self._status = os.fstat(self._descriptor)

    def _unreadable(self, error: OSError) -> BadImage:
        return BadImage(self._path, (error.strerror or str(error)).lower())

    def read(self, begin: int = 0, end: int | None = None) -> bytes:
        """Return the bytes in ``[begin, end)``; raise `BadImage` when the file was changed meanwhile."""
        pieces: list[bytes] = []
        try:
            while end is None or begin < end:
                piece = os.pread(self._descriptor, 1 << 24 if end is None else end - begin, begin)
                if not piece:
                    break
                pieces.append(piece)
                begin += len(piece)
        except OSError as error:
            raise self._unreadable(error) from error
        now, then = os.fstat(self._descriptor), self._status
        if (now.st_size, now.st_mtime_ns) != (then.st_size, then.st_mtime_ns):
            raise BadImage(self._path, "it was changed while it was in use")
        return b"".join(pieces)

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of the file, which is read unless it is the same as when that was done last."""
        state = self._status
        parts = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        key = hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
        known = store.load(_ROOM, key)
        if known is not None:
            return known.decode()
        found, begin = hashlib.sha256(), 0
        while piece := self.read(begin, begin + _PIECE):
            found.update(piece)
            begin += len(piece)
        digest = found.hexdigest()
        if time.time_ns() - max(state.st_mtime_ns, state.st_ctime_ns) > _SETTLED:
            store.save(_ROOM, key, digest.encode())
        return digest


class Held:
    """A part of a kernel, fetched when it is asked for."""

    def __init__(self, fetch: Callable[[int, int], bytes], begin: int, end: int) -> None:
        self._fetch, self._begin, self._end = fetch, begin, end

    def __repr__(self) -> str:
        return f"Held(0x{self._begin:x}, 0x{self._end:x})"

    def __bytes__(self) -> bytes:
        return self._fetch(self._begin, self._end)

    def __eq__(self, other: object) -> bool:
        return bytes(self) == bytes(other) if isinstance(other, (bytes, Held)) else NotImplemented

    def __hash__(self) -> int:
        return hash(bytes(self))
