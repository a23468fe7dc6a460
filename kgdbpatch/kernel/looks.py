"""Threads, stacks and registers of a running kernel, or of a dead one: what a stop of the guest shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kgdbpatch.errors import BadInput, KgdbPatchError, Misuse
from kgdbpatch.image.near import close_names
from kgdbpatch.kernel.naming import NamedGuest
from kgdbpatch.results import CpuRegisters, FrameRow, ThreadRow, Trace
from kgdbpatch.vm.registers import GRegisters

if TYPE_CHECKING:
    from kgdbpatch.kernel.code_map import CodeMap
    from kgdbpatch.kernel.frames import Walker
    from kgdbpatch.personality.base import Thread, ThreadDetail
    from kgdbpatch.vm.gdb import Session

__all__ = ["Cpu", "LookedAt", "interrupted"]

_HALTED = "halted"  # a thread that is over, whose structure awaits the next one
_AROUND = 0x4000  # bytes that are read of a stack that is no thread's
_STEP = 0x400
_STACKS = 4  # of interrupts, one within the other
_VECTOR = 0x100  # bytes of a vector, at most

Threads = list[ThreadRow]
Traces = list[Trace]


class Cpu(NamedTuple):
    """A CPU as it stands: its registers, what exceptions left in SRR0 and SRR1, the thread that it runs."""

    registers: GRegisters
    srr0: int
    srr1: int
    thread: Thread | None


class _View(NamedTuple):
    """A kernel as it was in a stop: what follows its stacks, its CPUs and threads."""

    walker: Walker
    cpus: Sequence[Cpu]
    threads: Sequence[Thread]
    details: Sequence[ThreadDetail]


class LookedAt(NamedGuest):
    """A guest whose threads, stacks and registers can be looked at; it goes on, or stays paused."""

    def threads(self) -> Threads:
        """Return the kernel's threads, and where each is; of a kernel whose threads are not known its CPUs.

        The guest, which may be dead, is stopped for a moment.

        >>> [(row.pid, row.name, row.symbol) for row in kernel.threads() if row.state == "running"]
        [(40, 'vector', 'vector_sum+0x1c')]
        """
        view = self._view()
        return [
            ThreadRow(*_who(trace), *self._place(trace.frames)) for trace in self._traces(view, view.threads)
        ]

    def _place(self, frames: Sequence[FrameRow]) -> tuple[int | None, str | None]:
        """Return where a thread is by its frames: in what called the scheduler, if it is in that."""
        idle = self._personality.scheduler(self._image)
        for frame in frames:
            if not any(window.start <= frame.address < window.end for window in idle):
                return frame.address, frame.symbol
        return (frames[0].address, frames[0].symbol) if frames else (None, None)

    def backtrace(
        self, thread: int | str | None = None, *, everybody: bool = False, lines: bool = True
    ) -> Traces:
        """Return the stacks of the CPUs, or of the threads that ``thread`` names, or of ``everybody``.

        A thread is named by its number, its process's, its structure's address, or its name, which several
        may have. ``lines``: with source lines, where the kernel's debug information is known. The guest,
        which may be dead, is stopped for a moment. Raises `Misuse` where there is no such thread.

        >>> kernel.backtrace("kswapd0")[0].frames[2].symbol
        'kswapd+0x2ac'
        """
        view = self._view()
        chosen = [cpu.thread for cpu in view.cpus] if thread is None else self._named(view, thread)
        if everybody:
            chosen = [*view.threads]
        traces = self._traces(view, chosen, cpus=thread is None and not everybody)
        return self._with_lines(traces) if lines else traces

    def registers(self, cpu: int | None = None) -> list[CpuRegisters]:
        """Return the registers of every CPU, or of one; `Misuse` where there is no such CPU.

        The guest, which may be dead, is stopped for a moment.

        >>> hex(kernel.registers(0)[0].registers["msr"])
        '0x9032'
        """
        from kgdbpatch.kernel.code_map import CodeMap
        from kgdbpatch.kernel.register_file import all_registers

        with self.stopped() as session:
            numbers = range(session.cpus) if cpu is None else [cpu]
            if not 0 <= numbers[-1] < session.cpus:
                count = "one CPU, number 0" if session.cpus == 1 else f"CPUs 0 to {session.cpus - 1}"
                raise Misuse(f"guest '{self.name}' has no CPU {cpu}: it has {count}")
            found = []
            for number in numbers:
                session.select(number)
                found.append(all_registers(session))
            known = [*self._threads.all()]
            names = [self._on_cpu(session, number, known) for number in numbers]
        code = CodeMap(self)
        rows = []
        for number, values, thread in zip(numbers, found, names, strict=True):
            symbols = {
                name: code.name(value)
                for name, value in values.items()
                if value < 1 << 32 and (piece := code.piece_at(value)) is not None and piece.name
            }
            rows.append(CpuRegisters(number, thread and thread.name, values, symbols))
        return rows

    # ---- one stop --------------------------------------------------------------------------------

    def _on_cpu(self, session: Session, number: int, threads: Sequence[Thread]) -> Thread | None:
        """Return which thread a CPU runs, which is meant from then on."""
        session.select(number)
        general = GRegisters(session.read_all())

        def register(name: str) -> int:
            with suppress(KgdbPatchError):
                return general[name]
            try:
                return session.register(name)
            except KgdbPatchError:  # it has none of that name, or QEMU does not tell
                return 0

        if not self._cpu.in_process(general["msr"]):
            sp = general["r1"]
            own = next((one for one in threads if one.stack.start <= sp < one.stack.end), None)
            if own is not None:
                return own
        return self._personality.thread_on(self._image, self._threads.read, threads, register)

    def stacks(self, code: CodeMap) -> Traces:
        """Return the stacks of all threads, or of the CPUs of a kernel whose threads are not known.

        Those of one moment; ``code`` is what is known of the kernel's code and can be used again.
        """
        view = self._view(code)
        return self._traces(view, view.threads)

    def _view(self, code: CodeMap | None = None) -> _View:
        """Stop the guest, and take what its stacks hold with us."""
        from kgdbpatch.kernel.code_map import CodeMap
        from kgdbpatch.kernel.frames import Walker
        from kgdbpatch.kernel.safe_moment import stacks_of

        copies: list[tuple[int, bytes]] = []
        with self.stopped() as session:
            threads = [*self._threads.all()]
            details = self._personality.thread_details(self._image, self._threads.read, threads)
            cpus = []
            for number in range(session.cpus):
                thread = self._on_cpu(session, number, threads)
                general = GRegisters(session.read_all())
                cpus.append(Cpu(general, *interrupted(session), thread))
                copies += self._stack_of(session, general, threads)
            for one in threads:
                data = self._threads.read(one.stack.start, one.stack.end - one.stack.start)
                copies += [] if data is None else [(one.stack.start, data)]
        code = code or CodeMap(self)

        def read(address: int, size: int) -> bytes | None:
            for start, data in copies:
                if start <= address and address + size <= start + len(data):
                    return data[address - start : address - start + size]
            return self._threads.read(address, size)

        kept = [
            (one, detail) for one, detail in zip(threads, details, strict=True) if detail.state != _HALTED
        ]
        threads, details = [one for one, _ in kept], [detail for _, detail in kept]
        stacks = stacks_of(self, [cpu.registers for cpu in cpus], threads, read)
        return _View(Walker(stacks, code, self._cpu, self._personality.context), cpus, threads, details)

    def _stack_of(
        self, session: Session, general: GRegisters, threads: Sequence[Thread]
    ) -> Iterator[tuple[int, bytes]]:
        """Yield the memory above a CPU's stack pointer, where the kernel runs: (address, bytes).

        Interrupts may have changed stacks several times: each is yielded that is no thread's.
        """
        sp = 0 if self._cpu.in_process(general["msr"]) else general["r1"] & ~3
        for _ in range(_STACKS):
            data = b""
            with suppress(KgdbPatchError):  # up to where nothing is mapped
                while sp and len(data) < _AROUND:
                    at = sp + len(data)
                    count = _STEP - at % _STEP  # not across what may be the last page
                    data += self._threads.read(at, count) or session.read(at, count)
            if not data:
                return
            yield sp, data
            sp = _leaves_for(sp, data)
            if any(thread.stack.start <= sp < thread.stack.end for thread in threads):
                return

    # ---- of which threads ---------------------------------------------------------------------------

    def _named(self, view: _View, thread: int | str) -> Sequence[Thread | None]:
        """Return the threads that a word names; raise `Misuse` with names that are like it."""
        pairs = [*zip(view.threads, view.details, strict=True)]
        word = str(thread)
        number = int(word, 0) if word.isdigit() or word.lower().startswith("0x") else None
        found = [one for one, _ in pairs if number is not None and number == one.address]
        if number is not None and not found:
            found = [one for one, detail in pairs if detail.pid == number]
            found = [one for one, detail in pairs if detail.id == number and detail.pid is None] or found
            found = [one for one, detail in pairs if detail.id == detail.pid == number] or found
        found = found or [one for one, _ in pairs if one.name == word]
        if found:
            return found
        if not pairs:
            raise Misuse(f"the threads of guest '{self.name}' are not known: only its CPUs' stacks are shown")
        near = close_names(word, [one.name for one in view.threads])
        hint = (
            f"; did you mean {', '.join(near)}?" if near else f"; 'kgdbpatch threads {self.name}' lists them"
        )
        raise Misuse(f"guest '{self.name}' has no thread '{word}'{hint}")

    def _traces(self, view: _View, chosen: Sequence[Thread | None], *, cpus: bool = False) -> Traces:
        """Return the stacks of threads; with ``cpus``, or where no threads are known, of each CPU."""
        if cpus or not view.threads:
            return [self._trace(view, cpu.thread, number) for number, cpu in enumerate(view.cpus)]
        on = {cpu.thread.address: number for number, cpu in enumerate(view.cpus) if cpu.thread is not None}
        return [self._trace(view, one, on.get(one.address)) for one in chosen if one is not None]

    def _trace(self, view: _View, thread: Thread | None, cpu: int | None) -> Trace:
        detail = None
        if thread is not None:
            detail = view.details[view.threads.index(thread)] if thread in view.threads else None
        if cpu is not None:
            frames = self._frames_of(view.walker, view.cpus[cpu])
        else:
            frames = tuple(view.walker.frames(None if thread is None else view.walker.asleep(thread.sp)))
        running = "running" if cpu is not None else ""
        return Trace(
            None if thread is None else thread.address or None,
            None if detail is None else detail.id,
            None if detail is None else detail.pid,
            f"CPU {cpu}" if thread is None else thread.name,
            running or ("" if detail is None else detail.state),
            cpu,
            frames,
        )

    def _frames_of(self, walker: Walker, cpu: Cpu) -> tuple[FrameRow, ...]:
        """Return the frames of a CPU, which may be just entering or leaving an exception, untranslated.

        What was interrupted is told by SRR0 then, unless it stands in the stack already.
        """
        from kgdbpatch.kernel.frames import Where, exception_name

        general = cpu.registers
        pc, msr, sp = general["pc"], general["msr"], general["r1"]
        values = {number: general[f"r{number}"] for number in range(32)}
        if self._cpu.in_process(msr):
            return tuple(walker.frames(Where(pc, sp, "process")))
        untranslated = not self._cpu.translated(msr)
        if untranslated and self._image.section_at(pc) is None:
            pc += self._threads._shift  # the kernel's code as its linear map shows it
        here = Where(pc, sp, "cpu", general["lr"], registers=values)
        kind = walker.kind(cpu.srr0, cpu.srr1) if untranslated else None
        if kind is None or walker.is_saved(here, cpu.srr0):
            return tuple(walker.frames(here))
        name = exception_name(general["pc"] & 0xFFFF & -_VECTOR)
        behind = Where(cpu.srr0, sp, kind, general["lr"], exception=name, registers=values)
        return tuple(walker.frames(here, behind))

    # ---- source lines ----------------------------------------------------------------------------------

    def _with_lines(self, traces: Traces) -> Traces:
        """Return traces with the lines of the kernel's source, as far as its debug information is known."""
        from kgdbpatch.image.debug import debug_file
        from kgdbpatch.vm.source_lines import source_lines

        try:
            path: Path = debug_file(self._image)
        except BadInput:
            return traces

        def place(frame: FrameRow) -> int:
            return frame.address - 4 * (frame.kind == "call")

        wanted = {
            place(frame)
            for trace in traces
            for frame in trace.frames
            if frame.patch is None and self._image.function_at(place(frame)) is not None
        }
        known = source_lines(path, sorted(wanted))
        found = []
        for trace in traces:
            frames = []
            for frame in trace.frames:
                file, line = known.get(place(frame), (None, None)) if frame.patch is None else (None, None)
                frames.append(replace(frame, file=file, line=line))
            found.append(replace(trace, frames=tuple(frames)))
        return found


def _who(
    trace: Trace,
) -> tuple[int | None, int | None, int | None, str, str, int | None]:
    return trace.thread, trace.id, trace.pid, trace.name, trace.state, trace.cpu


def _leaves_for(sp: int, data: bytes) -> int:
    """Return where the back chain leads from a stack, which is there from ``sp`` on; 0 for nowhere."""
    at, end = sp, sp + len(data)
    while True:
        above = int.from_bytes(data[at - sp : at - sp + 4], "big")
        if not at < above < end:
            return 0 if above % 4 or sp <= above <= at else above
        if above % 4 or above + 4 > end:
            return 0
        at = above


def interrupted(session: Session) -> tuple[int, int]:
    """Return SRR0 and SRR1 of the CPU that is meant; 0 where they are not told."""
    found = []
    for name in ("srr0", "srr1"):
        try:
            found.append(session.register(name))
        except KgdbPatchError:
            found.append(0)
    return found[0], found[1]
