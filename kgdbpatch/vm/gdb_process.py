"""GDB as a child process: one MI command begins rows of packets (``inside_gdb.py``), an empty row ends it."""

from __future__ import annotations

import json
import math
import os
import re
import select
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from kgdbpatch.errors import CommandFailed, TargetLost, TargetTimeout
from kgdbpatch.vm.follow import Owner
from kgdbpatch.vm.launch import find_tool
from kgdbpatch.vm.mi import Dialogue, Record, Result, quoted

__all__ = ["Gdb"]

_SETTINGS = (
    "confirm off",
    "pagination off",
    "endian big",  # before connecting: without an executable GDB assumes little
    "stack-cache off",  # rows change memory without GDB's knowledge
    "code-cache off",
    "osabi none",  # a kernel is no process: no search for signal frames at each connection
    "remote trace-status-packet off",  # no tracepoints either
)
_GONE = re.compile("(?i)connection (closed|reset|refused)|broken pipe|no such file|remote target")
_END = 5.0  # seconds GDB has for its end
_TOLD = 8  # orders that an error quotes
_TAIL = 500  # characters of GDB's stderr that an error quotes


def _console(command: str) -> str:
    """Return the MI command that executes a command of GDB's console."""
    return f"-interpreter-exec console {quoted(command)}"


class Gdb:
    """A running GDB with further ``settings``, in ``directory``; it has ``shared`` as the same descriptor."""

    def __init__(self, target: Owner, settings: Sequence[str], shared: int, directory: Path) -> None:
        self._target = target
        self._closed = False
        self._unsent, self._unread = b"", b""
        self._owed = 0  # answers to come; those to rows that were given up on are nobody's
        self._last_words = os.memfd_create("gdb-stderr", os.MFD_CLOEXEC)
        orders, self._in = os.pipe()
        self._out, answers = os.pipe()
        self._process = subprocess.Popen(
            [find_tool("gdb-multiarch", "gdb-multiarch"), "-nx", "-q", "--interpreter=mi3"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._last_words,
            bufsize=0,
            pass_fds=[orders, answers, shared],
            env={**os.environ, "LC_ALL": "C", "DEBUGINFOD_URLS": ""},
            cwd=directory,
            start_new_session=True,  # a signal to our group must not reach it while it holds the guest
            restore_signals=False,  # SIGPIPE stays ignored: it carries on when we are gone
        )
        os.close(orders)
        os.close(answers)
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._pipes = self._process.stdin, self._process.stdout
        self._mi = Dialogue(*self._pipes)
        self._serve = _console(f"python serve({orders}, {answers})")
        settings = [f"-gdb-set {setting}" for setting in (*_SETTINGS, *settings)]
        settings += (_console(f"source {Path(__file__).with_name('inside_gdb.py')}"), self._serve)
        self._serves = True  # GDB takes rows, and no MI commands
        with suppress(BrokenPipeError):  # what ended GDB is told when it is asked
            *self._unset, _ = self._mi.send(settings, _END)

    def ask(
        self, *orders: str, deadline: float, overdue: tuple[float, Callable[[], None]] | None = None
    ) -> list[str | None]:
        """Have GDB's Python carry out a row of orders; return the answers, None for a packet that got none.

        ``overdue``: what to do whenever so many seconds have passed. Raises `TargetLost` when GDB or its
        target ends, `TargetTimeout` after ``deadline`` seconds (GDB is ended then), `CommandFailed` with
        GDB's words about the first order that fails; those after it are not begun.
        """
        answers: list[str | None]
        if not self._serves:
            self._serves = True
            self._send([self._serve], deadline)
        answers, complaint = json.loads(self._exchange(orders, deadline, overdue))
        if complaint is not None:
            raise self._failed(complaint)
        return answers

    def command(self, *commands: str, deadline: float) -> list[Result]:
        """Have GDB execute MI commands, all of them; return their results. Errors as for `ask`."""
        if self._serves:
            self._serves = False
            self._unsent += b"\n"
        return self._checked(self._results(self._send(commands, deadline), deadline, commands))

    def _checked(self, results: list[Result]) -> list[Result]:
        for result in results:
            if result.error is not None:
                raise self._failed(result.error)
        return results

    def run(self, seconds: int, deadline: float) -> Record:
        """Let the target run until it stops, of itself or by GDB's SIGINT; return the record ``stopped``."""
        self._mi.told.clear()
        self.command(_console(f"python run({seconds})"), deadline=deadline)
        while True:
            for record in self._mi.told:
                if record.name == "stopped":
                    return record
                if record.name == "thread-group-exited":
                    raise self._failed("Remote connection closed")
            self._hear(time.monotonic() + deadline, ["-exec-continue"])

    def start(self, deadline: float) -> None:
        """Wait until GDB is up and set."""
        self.ask(deadline=deadline)
        unset, self._unset = self._unset, []
        self._checked(self._results(unset, deadline, ["its settings"]))

    def _send(self, commands: Sequence[str], deadline: float) -> list[int]:
        try:
            return self._mi.send(commands, deadline)
        except BrokenPipeError:
            raise self._ended() from None

    def _results(self, tokens: Sequence[int], deadline: float, what: Sequence[str]) -> list[Result]:
        """Wait for the results of MI commands."""
        end = time.monotonic() + deadline
        while (results := self._mi.results(tokens)) is None:
            self._hear(end, what)
        return results

    def _hear(self, end: float, what: Sequence[str]) -> None:
        """Take in what GDB says next through its standard output."""
        found = self._turn(self._pipes[1].fileno(), end)
        if found & select.POLLIN:
            self._mi.read()
        elif found:
            raise self._ended()
        elif time.monotonic() >= end:
            raise self._too_late(what)

    def _failed(self, complaint: str) -> TargetLost:
        """Return the error for GDB's complaint, which may tell that its target has ended."""
        if self._target.process.wait(1.0 if _GONE.search(complaint) else 0):
            return self._target.lost()
        return CommandFailed(f"GDB: {complaint.strip()}")

    def _too_late(self, what: Sequence[str]) -> TargetTimeout:
        self._process.kill()
        more = f" and {len(what) - _TOLD} more" if len(what) > _TOLD else ""
        told = (", ".join(order[:60] for order in what[:_TOLD]) or "its settings") + more
        return TargetTimeout(f"GDB did not answer {told} in time; it was ended")

    def _exchange(
        self, orders: Sequence[str], deadline: float, overdue: tuple[float, Callable[[], None]] | None
    ) -> bytes:
        """Write a row, wait for its answer; those to earlier rows that Ctrl-C left unread are dropped."""
        after, act = overdue or (math.inf, None)
        began = time.monotonic()
        end, due = began + deadline, began + after
        self._unsent += json.dumps(orders).encode() + b"\n"
        self._owed += 1
        while True:
            while b"\n" not in self._unread:
                if self._turn(self._out, min(end, due)):
                    said = os.read(self._out, 1 << 20)
                    if not said:
                        raise self._ended()
                    self._unread += said
                elif act and time.monotonic() >= due:
                    due += after
                    act()
                elif time.monotonic() >= end:
                    raise self._too_late(orders)
            answer, _, self._unread = self._unread.partition(b"\n")
            self._owed -= 1
            if not self._owed:
                return answer

    def _turn(self, source: int, end: float) -> int:
        """Wait for GDB once, until ``end``; write what it takes; return what poll(2) says of ``source``."""
        if self._unsent:
            with suppress(BlockingIOError, BrokenPipeError):
                self._unsent = self._unsent[os.write(self._in, self._unsent) :]
        poll = select.poll()
        poll.register(source, select.POLLIN)
        if self._unsent:
            poll.register(self._in, select.POLLOUT)
        other = self._target.process.fileno()
        if other < 0:
            raise self._target.lost()
        poll.register(other, select.POLLIN)
        ready = dict(poll.poll(max(0.0, end - time.monotonic()) * 1000))
        if source not in ready and other in ready:  # GDB has nothing more to say about it
            raise self._target.lost()
        return ready.get(source, 0)

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

    @property
    def orders(self) -> int:
        """The descriptor that rows of orders are written to."""
        return self._in

    def hang_up(self) -> None:
        """Let go of GDB, as this process's death would: it carries out what it was given, and ends."""
        if self._closed:
            return
        self._closed = True
        for end in (self._in, self._out, self._last_words):
            os.close(end)
        for pipe in self._pipes:
            with suppress(OSError):
                pipe.close()

    def close(self) -> None:
        """End GDB by the end of its orders; a guest it holds goes on."""
        if self._closed:
            return
        self.hang_up()
        try:
            self._process.wait(_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
