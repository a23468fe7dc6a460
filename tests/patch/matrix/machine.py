"""Run cases on a bare MPC750 of QEMU: one boot for a whole array of them, deterministic by icount."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from bare.program import AS, branch, program

from kgdbpatch.vm.gdb import Debugger
from kgdbpatch.vm.machine import MachineDescription
from kgdbpatch.vm.qemu import Qemu

__all__ = ["CASE", "STACK", "STACK_POINTER", "Outcome", "needs_machine", "private_runtime", "run"]

_MISSING = [tool for tool in ("qemu-system-ppc", "gdb-multiarch", AS) if shutil.which(tool) is None]
_SOURCE = Path(__file__).with_name("harness.s")
_CURRENT, _START = 0x2008, 0x2F00
_CASES, _RESULTS = 0x0020_0000, 0x0040_0000
_GAP = 0x1_0000  # words further apart are loaded by themselves
MEMORY_MIB = 192
STACK = range(0x0060_0000, 0x0060_2000)  # of all cases
STACK_POINTER = {"sysv": STACK.start + 0x800, "darwin": STACK.start + 0x1000}

_REGISTERS = ("cr", "lr", "ctr", "xer")


def _fields(*names: str) -> np.dtype[np.void]:
    return np.dtype([*((name, ">u4") for name in names), ("r", ">u4", 32)])


CASE = _fields("entry", "msr", *_REGISTERS, "site", "pad")
RESULT = _fields("vector", "srr0", "srr1", *_REGISTERS, "pad")


needs_machine = [
    pytest.mark.skipif(
        bool(_MISSING) and not os.environ.get("CI"), reason=f"not installed: {', '.join(_MISSING)}"
    )
]


@contextmanager
def private_runtime() -> Iterator[None]:
    """Have guests recorded in a directory of their own, with a path short enough for sockets."""
    directory = Path(tempfile.mkdtemp(prefix="kgdbpatch-"))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("KGDBPATCH_RUNTIME", str(directory))
        yield
    shutil.rmtree(directory)


@dataclass
class Outcome:
    """The results of all cases, the words asked for, and the memory of the stack."""

    results: npt.NDArray[np.void]
    counters: list[int]
    stack: bytes


def _pieces(words: Mapping[int, int]) -> Iterator[tuple[int, bytes]]:
    """Yield (address, bytes) of all words, those close together in one piece."""
    addresses = sorted(words)
    begin = 0
    for index in range(1, len(addresses) + 1):
        if index < len(addresses) and addresses[index] - addresses[index - 1] < _GAP:
            continue
        piece = np.zeros((addresses[index - 1] - addresses[begin]) // 4 + 1, ">u4")
        for address in addresses[begin:index]:
            piece[(address - addresses[begin]) // 4] = words[address]
        yield addresses[begin], piece.tobytes()
        begin = index


def run(
    name: str,
    words: Mapping[int, int],
    cases: npt.NDArray[np.void],
    counters: list[int],
    stack: bytes,
    deadline: float = 60,
) -> Outcome:
    """Run every case with ``words`` in memory; return the results in the order of the cases.

    Raises `TargetTimeout` when the cases do not end.
    """
    code, symbols = program(_SOURCE)
    low = np.zeros(_START // 4 + 1, ">u4")
    low[: len(code) // 4] = np.frombuffer(code, ">u4")
    end = _CASES + cases.nbytes
    assert end <= _RESULTS
    low[_CURRENT // 4 : _CURRENT // 4 + 3] = _CASES, _RESULTS, end
    low[_START // 4] = branch(_START, symbols["start"])
    with tempfile.TemporaryDirectory(prefix="kgdbpatch-") as directory:
        arguments = ["-S", "-device", f"loader,addr={_START:#x},cpu-num=0"]
        pieces = [(0, low.tobytes()), (_CASES, cases.tobytes()), (STACK.start, stack), *_pieces(words)]
        for number, (address, data) in enumerate(pieces):
            file = Path(directory, str(number))
            file.write_bytes(data)
            arguments += ["-device", f"loader,file={file},addr={address:#x},force-raw=on"]
        machine = MachineDescription.load("g3beige")
        with (
            Qemu.start(name, machine, MEMORY_MIB, arguments, icount="shift=0,sleep=off") as qemu,
            Debugger(qemu) as debugger,
        ):
            with debugger.stopped() as session:
                session.run_to_physical(symbols["done"], deadline)
            read = qemu.ram.read
            return Outcome(
                np.frombuffer(read(_RESULTS, len(cases) * RESULT.itemsize), RESULT),
                [int.from_bytes(read(address, 4), "big") for address in counters],
                read(STACK.start, len(STACK)),
            )
