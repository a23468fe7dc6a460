"""GDB as a child process that speaks MI: commands out in one write, replies matched by token.

Several commands given at once are in GDB's pipe together, so GDB carries all of them out even
when this process is killed meanwhile; the end of its input then ends GDB, which lets the guest go.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from pygdbmi import gdbmiparser

from kgdbpatch.errors import CommandFailed, TargetLost, TargetTimeout
from kgdbpatch.target.launch import find_tool
from kgdbpatch.target.process import Process

__all__ = ["Gdb", "Reply", "Target"]

_SETTINGS = (
    "confirm off",
    "pagination off",
    "endian big",  # before connecting: without an executable GDB assumes little
    "stack-cache off",
    "code-cache off",
    "debuginfod enabled off",
)
_RESULT = re.compile(r"(\d+)\^")
_GONE = re.compile("(?i)connection (closed|reset|refused)|broken pipe|no such file|remote target")
_END = 5.0  # seconds GDB has for its end
_TAIL = 500  # characters of GDB's stderr that an error quotes


class Target(Protocol):
    """What GDB is connected to: something that can end, and says how it did."""

    @property
    def process(self) -> Process:
        """The process at the other end."""

    def lost(self) -> TargetLost:
        """Return the error that says how it ended."""


@dataclass(frozen=True, slots=True)
class Reply:
    """GDB's answer to one command; ``text`` is what it printed for people, ``error`` its complaint."""

    payload: dict[str, object]
    text: str
    error: str | None

    def checked(self) -> Reply:
        """Return the reply itself; raise `CommandFailed` with GDB's words when it is an error."""
        if self.error is not None:
            raise CommandFailed(f"GDB: {self.error}")
        return self


class Gdb:
    """A running GDB; ``passed`` are descriptors that it inherits under the same numbers."""

    def __init__(self, target: Target, settings: Sequence[str], passed: Sequence[int]) -> None:
        self._target = target
        self._closed = False
        self._token = 0
        self._unread = b""
        self._text: list[str] = []  # printed since the last result
        self._last_words = os.memfd_create("gdb-stderr", os.MFD_CLOEXEC)
        self._process = subprocess.Popen(
            [find_tool("gdb-multiarch", "gdb-multiarch"), "-nx", "-q", "--interpreter=mi3"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._last_words,
            bufsize=0,
            pass_fds=passed,
            env={**os.environ, "LC_ALL": "C"},
            start_new_session=True,  # a signal to our group must not reach it while it holds the guest
            restore_signals=False,  # SIGPIPE stays ignored: it carries on when we are gone
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)
        self._configured = self._queue([f"-gdb-set {setting}" for setting in (*_SETTINGS, *settings)])

    def _queue(self, commands: Sequence[str]) -> tuple[bytes, list[int]]:
        lines, tokens = [], []
        for command in commands:
            self._token += 1
            tokens.append(self._token)
            lines.append(f"{self._token}{command}\n")
        return "".join(lines).encode(), tokens

    def ask(self, *commands: str, deadline: float) -> list[Reply]:
        """Have GDB execute commands in order; return the reply of each, errors included.

        Raises `TargetLost` when GDB or its target ends, `TargetTimeout` after ``deadline``
        seconds; GDB is ended then.
        """
        setup, tokens = self._configured
        self._configured = (b"", [])
        data, asked = self._queue(commands)
        replies = self._exchange(setup + data, [*tokens, *asked], deadline, commands)
        for token in tokens:
            replies[token].checked()
        for error in filter(None, (replies[token].error for token in asked)):
            if self._target.process.wait(1.0 if _GONE.search(error) else 0):
                raise self._target.lost()
        return [replies[token] for token in asked]

    def start(self, deadline: float) -> None:
        """Wait until GDB is up and set."""
        self.ask(deadline=deadline)

    def _exchange(
        self, data: bytes, tokens: Sequence[int], deadline: float, what: Sequence[str]
    ) -> dict[int, Reply]:
        replies: dict[int, Reply] = {}
        end = time.monotonic() + deadline
        while not all(token in replies for token in tokens):
            data = self._turn(data, end, ", ".join(command[:60] for command in what) or "its settings")
            self._parse(replies)
        return replies

    def _turn(self, data: bytes, end: float, what: str) -> bytes:
        """Wait for GDB once: write what it takes of ``data``, read what it says; return the rest."""
        left = end - time.monotonic()
        poll = select.poll()
        poll.register(self._out, select.POLLIN)
        if data:
            poll.register(self._in, select.POLLOUT)
        other = self._target.process.fileno()
        if other < 0:
            raise self._target.lost()
        poll.register(other, select.POLLIN)
        ready = dict(poll.poll(max(0.0, left) * 1000))
        if self._out in ready:
            said = os.read(self._out, 1 << 20)
            if not said:
                raise self._ended()
            self._unread += said
        elif other in ready:  # GDB has nothing more to say about it
            raise self._target.lost()
        elif not ready:
            self._process.kill()
            raise TargetTimeout(f"GDB did not answer {what} in time; it was ended")
        if ready.get(self._in, 0) & select.POLLOUT:
            data = data[os.write(self._in, data) :]
        return data

    def _parse(self, replies: dict[int, Reply]) -> None:
        *lines, self._unread = self._unread.split(b"\n")
        for line in lines:
            record = gdbmiparser.parse_response(line.decode(errors="replace"))
            kind = record["type"]
            if kind in ("console", "target", "log"):
                self._text.append(str(record["payload"] or ""))
            elif kind == "result":
                payload = record["payload"] if isinstance(record["payload"], dict) else {}
                error = str(payload.get("msg", "error")) if record["message"] == "error" else None
                if record["token"] is not None:
                    replies[int(record["token"])] = Reply(payload, "".join(self._text), error)
                self._text.clear()

    def _ended(self) -> TargetLost:
        """Return the error that says why GDB is gone: most often because QEMU is."""
        if self._target.process.wait(0.2):
            return self._target.lost()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END)
        size = os.fstat(self._last_words).st_size
        words = os.pread(self._last_words, _TAIL, max(0, size - _TAIL)).decode(errors="replace").strip()
        return TargetLost(f"GDB ended (exit code {self._process.returncode}): {words or 'no message'}")

    def alive(self) -> bool:
        """Tell whether GDB still runs."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """GDB's process id."""
        return self._process.pid

    def close(self) -> None:
        """End GDB by the end of its input; a guest it holds goes on."""
        if self._closed:
            return
        self._closed = True
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._last_words)
