"""Commands that show where a kernel is: threads, bt, regs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from kgdbpatch.cli.options import AsJson, ImageFile, Name, Wait, attach
from kgdbpatch.cli.output import hexadecimal, json_line, table, tell
from kgdbpatch.cli.waiting import progress

if TYPE_CHECKING:
    from kgdbpatch.results import CpuRegisters, FrameRow, Trace

__all__ = ["bt", "regs", "threads"]

_NO_THREADS = "the threads of this kernel are not known: these are its CPUs"
_COLUMNS = 4  # registers in a line
_FLOATING = {f"{kind}{number}" for kind in "fv" for number in range(32)}


def threads(name: Name, image: ImageFile = None, wait: Wait = 10.0, as_json: AsJson = False) -> None:
    """List a kernel's threads: number, process, state, CPU, and where each is.

    A thread that sleeps is where it went to sleep; what the scheduler does then is left out. One that runs
    is where its CPU is, be it in the process. The guest is stopped for a moment; it may be dead, or
    paused, and is so afterwards.

    \b
    Examples:
      kgdbpatch threads linux
      kgdbpatch threads darwin --json
    """
    with attach(name, image, wait, dead=True) as kernel, progress("looking at the threads"):
        rows = kernel.threads()
    if as_json:
        for row in rows:
            json_line(asdict(row))
        return
    shown = [
        (
            *("-" if value is None else value for value in (row.id, row.pid)),
            row.name,
            row.state or "-",
            "-" if row.cpu is None else row.cpu,
            hexadecimal(row.pc),
            row.symbol or "-",
        )
        for row in rows
    ]
    table(("ID", "PID", "NAME", "STATE", "CPU", "PC", "SYMBOL"), shown)
    if all(row.thread is None for row in rows):
        tell(f"kgdbpatch: {_NO_THREADS}", err=True)


def bt(
    name: Name,
    thread: Annotated[
        str | None,
        Argument(
            metavar="[THREAD]",
            show_default=False,
            help="A process's number, a thread's, the address of its structure, or a name.",
        ),
    ] = None,
    everybody: Annotated[bool, Option("--all", help="The stacks of all threads.")] = False,
    lines: Annotated[
        bool, Option("--lines/--no-lines", help="With lines of the source, where they are known.")
    ] = True,
    image: ImageFile = None,
    wait: Wait = 10.0,
    as_json: AsJson = False,
) -> None:
    """Show a kernel's stacks: those of its CPUs, of one thread, or of all.

    A frame inside of a patch names the patch and the place that it is for. What an exception interrupted
    is shown behind its handler, and so is where a process goes on. No debug information is needed; with it
    (in the kernel's file, or beside it) source lines are shown. The guest is stopped for a moment; it may
    be dead, or paused, and is so afterwards.

    \b
    Examples:
      kgdbpatch bt linux
      kgdbpatch bt linux 1
      kgdbpatch bt linux kswapd0 --no-lines
      kgdbpatch bt darwin --all --json
    """
    from kgdbpatch.errors import Misuse

    if everybody and thread is not None:
        raise Misuse("give a THREAD, or --all")
    with attach(name, image, wait, dead=True) as kernel, progress("looking at the stacks"):
        traces = kernel.backtrace(thread, everybody=everybody, lines=lines)
    for number, trace in enumerate(traces):
        if as_json:
            json_line(asdict(trace))
            continue
        if number:
            tell()
        _show(trace)


def _show(trace: Trace) -> None:
    known = [f"thread {trace.id}"] if trace.id is not None and trace.id != trace.pid else []
    known += [f"pid {trace.pid}"] if trace.pid is not None else []
    known += [trace.state] if trace.state else []
    on = f" on CPU {trace.cpu}" if trace.cpu is not None and trace.name != f"CPU {trace.cpu}" else ""
    tell(f"{trace.name}: {', '.join(known)}{on}" if known or on else f"{trace.name}:")
    if not trace.frames:
        tell("  nothing is known of its stack")
    for frame in trace.frames:
        tell(f"  #{frame.level:<3}{hexadecimal(frame.address)}  {' '.join(_told(frame))}")


def _told(frame: FrameRow) -> Iterator[str]:
    yield "a process" if frame.kind == "process" else frame.symbol
    if frame.patch is not None:
        yield f"[patch {frame.patch} at {frame.function}]"
    if frame.file is not None:
        yield f"at {frame.file}:{frame.line}"
    if frame.exception is not None:
        yield f"({'' if frame.kind == 'process' else 'interrupted: '}{frame.exception})"
    elif frame.kind == "interrupted":
        yield "(interrupted)"


def regs(
    name: Name,
    cpu: Annotated[int | None, Option(min=0, metavar="N", help="Only this CPU's.")] = None,
    everything: Annotated[bool, Option("--all", help="Floating point and vector registers, too.")] = False,
    image: ImageFile = None,
    wait: Wait = 10.0,
    as_json: AsJson = False,
) -> None:
    """Show the registers of a guest's CPUs, with symbols beside those that point into code.

    Special registers are called as QEMU calls them: msr, srr0, dar, dsisr, pvr. The guest is stopped for a
    moment; it may be dead, or paused, and is so afterwards. --json has all registers.

    \b
    Examples:
      kgdbpatch regs linux
      kgdbpatch regs linux --cpu 1 --json
    """
    with attach(name, image, wait, dead=True) as kernel, progress("reading registers"):
        rows = kernel.registers(cpu)
    for number, row in enumerate(rows):
        if as_json:
            json_line(asdict(row))
            continue
        if number:
            tell()
        _show_registers(row, everything)


def _show_registers(row: CpuRegisters, everything: bool) -> None:
    tell(f"CPU {row.cpu}: {row.thread}" if row.thread else f"CPU {row.cpu}:")
    shown = [one for one in row.registers.items() if everything or one[0] not in _FLOATING]
    width = max(len(name) for name, _ in shown)
    cells = []
    for name, value in shown:
        if name in row.symbols:
            continue
        digits = 8 if value < 1 << 32 else 16 if value < 1 << 64 else 32
        few = name in ("so", "ov", "ca") or (name[:2] == "cr" and len(name) > len("cr"))
        cells.append(f"{name:<{width}} {f'{value:x}':<8}" if few else f"{name:<{width}} {value:0{digits}x}")
    for start in range(0, len(cells), _COLUMNS):
        tell("  ".join(cells[start : start + _COLUMNS]).rstrip())
    for name, symbol in row.symbols.items():
        tell(f"{name:<{width}} {row.registers[name]:08x}  {symbol}")
