"""What is to be known of a guest when a test failed on it: its console, patches, registers, stacks."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import kgdbpatch
from kgdbpatch.errors import KgdbPatchError
from kgdbpatch.kernel import doctor
from kgdbpatch.vm.cpus import glances
from kgdbpatch.vm.launch import find_tool

if TYPE_CHECKING:
    from kgdbpatch.kernel import Kernel
    from kgdbpatch.kernel.health import Health

__all__ = ["sections"]

_MOST_LINES = 400  # of the console
_DEADLINE = 5.0  # seconds for QEMU to answer
_PROGRAM = re.compile(r"^(NIP|MSR|TB|GPR|CR|SRR|CTR|PVR|\s+(TBU|SRR))")


def sections(kernel: Kernel, found: Health) -> list[tuple[str, str]]:
    """Return (title, text) of all that can still be found out; the guest may be dead."""
    parts: list[tuple[str, Callable[[], str]]] = [
        ("kernel", lambda: _health(kernel, found)),
        ("console since the test began", lambda: _console(kernel)),
        ("patches", lambda: _patches(kernel)),
        ("registers", lambda: _registers(kernel)),
        ("stacks", lambda: _stacks(kernel)),
        ("versions", lambda: _versions(kernel)),
    ]
    return [(f"guest {kernel.name}: {title}", _tried(text)) for title, text in parts]


def _tried(text: Callable[[], str]) -> str:
    try:
        return text()
    except KgdbPatchError as error:
        return f"not to be had: {error}"


def _health(kernel: Kernel, found: Health) -> str:
    told = [": ".join(filter(None, [found.state, found.reason])), *found.oopses, found.endless]
    return "\n".join(filter(None, told))


def _console(kernel: Kernel) -> str:
    lines = [
        f"{line.time} {line.source}: {line.message}" if line.time else line.message
        for line in kernel.log.lines(everything=True)
    ]
    left_out = [f"({len(lines) - _MOST_LINES} lines left out)"] if len(lines) > _MOST_LINES else []
    return "\n".join([*left_out, *lines[-_MOST_LINES:]]) or "nothing"


def _patches(kernel: Kernel) -> str:
    rows = [
        f"{record.id} {record.state} at {kernel.image.symbolize(record.site)} (0x{record.site:08x}), "
        f"{record.entry}, hits {record.hits if record.counted else '-'}{', forced' if record.forced else ''}"
        for record in kernel.records()
    ]
    return "\n".join(rows) or "none"


def _registers(kernel: Kernel) -> str:
    cpus = glances(kernel.qemu, 1, _DEADLINE)[0]
    places = [f"cpu {number}: pc {kernel.place(cpu.pc)}" for number, cpu in enumerate(cpus)]
    text = kernel.qemu.hmp("info registers -a", deadline=_DEADLINE)
    return "\n".join([*places, *(line for line in text.splitlines() if _PROGRAM.match(line))])


def _stacks(kernel: Kernel) -> str:
    lines = []
    for number, trace in enumerate(kernel.backtrace(lines=False)):
        lines.append(f"cpu {number}: {trace.name}")
        for frame in trace.frames:
            of_patch = "" if frame.patch is None else f" [patch {frame.patch} at {frame.function}]"
            lines.append(f"  0x{frame.address:08x} {frame.symbol}{of_patch}")
    return "\n".join(lines)


def _versions(kernel: Kernel) -> str:
    metadata = kernel.qemu.metadata
    told = [f"image {kernel.image.path}", f"sha256 {metadata.get('sha256', kernel.image.sha256)}"]
    for name, package in ((kernel.qemu.binary, "qemu-system-ppc"), ("gdb-multiarch", "gdb-multiarch")):
        version, _ = doctor.first_line(find_tool(name, package), "--version")
        told.append(f"{name}: {version or 'unknown'}")
    return "\n".join([*told, f"kgdbpatch {kgdbpatch.__version__}"])
