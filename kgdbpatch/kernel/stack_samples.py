"""Sample the stacks of a running kernel's CPUs, by short stops."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from kgdbpatch.errors import KgdbPatchError, Misuse
from kgdbpatch.kernel.code_map import CodeMap
from kgdbpatch.kernel.frames import Walker
from kgdbpatch.kernel.looks import Cpu, interrupted
from kgdbpatch.kernel.probing import assure_running
from kgdbpatch.kernel.safe_moment import stacks_of
from kgdbpatch.profiles.folded import stack_of, stack_rows
from kgdbpatch.profiles.rows import StackRow
from kgdbpatch.vm.registers import GRegisters

if TYPE_CHECKING:
    from kgdbpatch.kernel.kernel import Kernel
    from kgdbpatch.personality.base import Thread
    from kgdbpatch.vm.gdb import Session

__all__ = ["StackSamples"]

_VECTORS, _VECTOR = 0x3000, 0x100  # where exceptions' vectors end, and their size, bytes
_RENEWED = 1.0  # seconds for which threads and patches are taken to be the same


class StackSamples:
    """Samples of the stacks of all CPUs, ``hz`` a second or as many as can be had.

    For each the guest is stopped for some milliseconds, in which its time stands still. Nothing is put into
    it. Threads are told apart by their names.

    >>> samples = StackSamples(kernel, hz=99)
    >>> samples.gather(5)
    >>> samples.rows()[0].stack[-1]
    'machine_idle'
    """

    def __init__(self, kernel: Kernel, *, hz: float = 99) -> None:
        if hz <= 0:
            raise Misuse(f"{hz} samples a second are none")
        self._kernel, self._interval = kernel, 1 / hz
        self._stacks = Counter[tuple[str, ...]]()
        self.stops = 0
        self.stopped = 0.0  # seconds that the guest stood still for all of them
        self.seconds = 0.0  # for which samples were taken
        self._renewed = 0.0
        self._threads: list[Thread] = []
        self._code: CodeMap | None = None
        self._patches: list[tuple[int, int]] = []

    def __enter__(self) -> Self:
        """Return itself: nothing is in the guest."""
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""

    def rows(self) -> list[StackRow]:
        """Return the stacks that were seen, those that were seen most first."""
        return stack_rows(self._stacks)

    def gather(self, seconds: float | None) -> None:
        """Take samples for so many seconds, for ever with None; raise `DeadKernel`, `Misuse` when paused."""
        assure_running(self._kernel)
        began = now = time.monotonic()
        due = began
        try:
            while seconds is None or now - began < seconds:
                self._renew(now)
                self.sample()
                due = max(due + self._interval, time.monotonic())
                end = due if seconds is None else min(due, began + seconds)
                time.sleep(max(end - time.monotonic(), 0))
                now = time.monotonic()
        finally:
            self.seconds += time.monotonic() - began

    def _renew(self, now: float) -> None:
        """Look anew at what threads there are, and at the patches, every so often."""
        if self._code is not None and now < self._renewed + _RENEWED:
            return
        kernel = self._kernel
        assure_running(kernel)
        with suppress(KgdbPatchError):  # the guest runs on meanwhile
            self._threads = [*kernel._threads.all()]
        sites = [(record.id, record.body) for record in kernel.records()]
        if self._code is None or sites != self._patches:
            self._code, self._patches = CodeMap(kernel), sites
        self._renewed = now

    def sample(self) -> None:
        """Take one sample of each CPU."""
        kernel, copies, cpus = self._kernel, list[tuple[int, bytes]](), list[Cpu]()
        with kernel.stopped() as session:
            began = time.monotonic()
            for number in range(session.cpus):
                cpu = self._cpu(session, number)
                cpus.append(cpu)
                copies += kernel._stack_of(session, cpu.registers, self._threads)
                stack = None if cpu.thread is None else cpu.thread.stack
                data = None if stack is None else kernel._threads.read(stack.start, stack.end - stack.start)
                if stack is not None and data is not None:
                    copies.append((stack.start, data))
        self.stopped += time.monotonic() - began
        self.stops += 1

        def read(address: int, size: int) -> bytes | None:
            for start, data in copies:
                if start <= address and address + size <= start + len(data):
                    return data[address - start : address - start + size]
            return None

        if self._code is None:
            self._renew(time.monotonic())
        assert self._code is not None
        stacks = stacks_of(kernel, [cpu.registers for cpu in cpus], self._threads, read)
        walker = Walker(stacks, self._code, kernel._cpu, kernel._personality.context)
        for number, cpu in enumerate(cpus):
            frames = kernel._frames_of(walker, cpu)
            if len(frames) > 1 and self._at_vector(cpu):
                frames = frames[1:]  # QEMU stops where an interrupt is taken: its handler did nothing yet
            thread = f"CPU {number}" if cpu.thread is None else cpu.thread.name or "[no name]"
            self._stacks[stack_of(frames, thread)] += 1

    def _at_vector(self, cpu: Cpu) -> bool:
        pc, msr = cpu.registers["pc"], cpu.registers["msr"]
        return not self._kernel._cpu.translated(msr) and pc < _VECTORS and not pc % _VECTOR

    def _cpu(self, session: Session, number: int) -> Cpu:
        thread = self._kernel._on_cpu(session, number, self._threads)
        return Cpu(GRegisters(session.read_all()), *interrupted(session), thread)
