"""Run programs on a bare MPC750 of QEMU, one after the other in one boot, by instructions counted."""

from __future__ import annotations

import struct
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from kgdbpatch.vm.gdb import Debugger
from kgdbpatch.vm.machine import MachineDescription
from kgdbpatch.vm.qemu import Qemu

__all__ = ["BODIES", "COUNTERS", "Ending", "Run", "run"]

BODIES = 0x0180_0000  # patch bodies: within reach of the programs
COUNTERS = 0x01C0_0000  # of patches
_STACK = 0x01FF_F000
_RUNS, _RESULTS, _SOURCES = 0x0010_0000, 0x0040_0000, 0x0200_0000
_CURRENT = 0x2000
_ENTRY = 0x2F00
_DRIVER_C = 0x3000
_MIB = 1 << 20
_TICK = 60  # instructions, about
_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Run:
    """Memory that is loaded at ``load``, padded by zeros to ``end``; then the call of ``entry``.

    ``data`` is the range whose hash is kept, ``counters`` how many words from `COUNTERS` on are;
    ``limit`` is how many instructions it may take.
    """

    memory: bytes
    load: int
    end: int
    entry: int
    r13: int
    data: tuple[int, int]
    counters: int
    limit: int


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended: ``vector`` 0 is a return; ``value`` is its result or SRR0."""

    vector: int
    value: int
    unkept: int  # bits of callee-saved registers that changed
    hash: int
    output: int
    counters: tuple[int, ...]

    @property
    def result(self) -> tuple[int, ...]:
        """What must be the same in every run of a program."""
        return self.vector, self.value, self.unkept, self.hash, self.output


@cache
def _driver() -> tuple[bytes, dict[str, int]]:
    """Return the driver, which lies at address 0, and its symbols."""
    with tempfile.TemporaryDirectory() as directory:
        built, raw = Path(directory, "driver"), Path(directory, "driver.bin")
        command = [
            "powerpc-linux-gnu-gcc",
            "-m32",
            "-O2",
            "-ffreestanding",
            "-fno-pic",
            "-no-pie",
            "-nostdlib",
        ]
        command += ["-fno-tree-loop-distribute-patterns", "-msoft-float", "-static", "-Wl,--build-id=none"]
        command += ["-fno-asynchronous-unwind-tables", "-Wl,-N,-Ttext=0", "-Wl,--no-warn-rwx-segments"]
        files = [_HERE / "driver.s", _HERE / "driver.c"]
        subprocess.run([*command, *map(str, files), "-o", str(built)], check=True)
        subprocess.run(["powerpc-linux-gnu-objcopy", "-O", "binary", str(built), str(raw)], check=True)
        listing = subprocess.run(
            ["powerpc-linux-gnu-nm", str(built)], check=True, capture_output=True, text=True
        ).stdout
        rows = [line.split() for line in listing.splitlines()]
        return raw.read_bytes(), {name: int(value, 16) for value, _, name in rows}


def run(name: str, runs: Sequence[Run], deadline: float = 300) -> list[Ending]:
    """Run all and return how each ended. Raises `TargetTimeout` when they do not end."""
    runs = [runs[0], *runs]  # the first takes what the decrementer has left from the reset
    code, symbols = _driver()
    rows, sources, results, source, result = [], list[bytes](), list[int](), _SOURCES, _RESULTS
    for each in runs:
        memory = each.memory.ljust(-(-len(each.memory) // 4) * 4, b"\0")
        counters = COUNTERS + 4 * each.counters
        row = [source, len(memory), each.load, each.end, each.entry, _STACK, 0x0100_0000, each.r13]
        rows.append([*row, each.limit // _TICK, *each.data, COUNTERS, counters, result])
        sources.append(memory)
        results.append(result)
        source += len(memory)
        result += 20 + 4 * each.counters
    assert result <= 0x0100_0000
    table = np.array(rows, ">u4").tobytes()
    low = bytearray(_DRIVER_C if len(code) < _DRIVER_C else len(code))
    low[: len(code)] = code
    low[_CURRENT : _CURRENT + 8] = np.array([_RUNS, _RUNS + len(table)], ">u4").tobytes()
    assert len(table) <= _RESULTS - _RUNS
    with tempfile.TemporaryDirectory(prefix="kgdbpatch-") as directory:
        arguments = ["-S", "-device", f"loader,addr={_ENTRY:#x},cpu-num=0"]
        for number, (at, data) in enumerate([(0, bytes(low)), (_RUNS, table), (_SOURCES, b"".join(sources))]):
            file = Path(directory, str(number))
            file.write_bytes(data)
            arguments += ["-device", f"loader,file={file},addr={at:#x},force-raw=on"]
        machine = MachineDescription.load("g3beige")
        size = -(-source // _MIB) + 1
        with (
            Qemu.start(name, machine, size, arguments, icount="shift=0,sleep=off") as qemu,
            Debugger(qemu) as debugger,
        ):
            with debugger.stopped() as session:
                session.run_to_physical(symbols["done"], deadline)
            found = []
            for each, at in zip(runs, results, strict=True):
                data = qemu.ram.read(at, 20 + 4 * each.counters)
                vector, value, unkept, digest, output = struct.unpack_from(">5I", data)
                counts = struct.unpack_from(f">{each.counters}I", data, 20)
                found.append(Ending(vector, value, unkept, digest, output, counts))
            return found[1:]
