"""Run cases on a bare MPC750 or MPC7400 of QEMU: one boot for a whole array of them."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from bare.program import branch, program

from kgdbpatch.vm.gdb import Debugger
from kgdbpatch.vm.machine import MachineDescription
from kgdbpatch.vm.qemu import Qemu

from .layout import CASE, RESULT, SLOT, TRAPS, VECTOR_CASE, VECTOR_RESULT, Cases, Results, has_vectors

__all__ = ["SLOTS", "run"]

_SOURCE, _VECTOR_SOURCE = (Path(__file__).with_name(name) for name in ("harness.s", "altivec.s"))
_CURRENT, _RESULT, _END = 0x2008, 0x200C, 0x2010
_TRAP = 0x7FE00008
_MIB = 1 << 20
_ALIGN = 0x1000
SLOTS = 0x10000


def _memory(slots: npt.NDArray[np.uint32], cases: Cases) -> tuple[bytes, int]:
    """Return the guest's memory from address 0 up to the end of the cases, and where results go."""
    code, symbols = program(_VECTOR_SOURCE if has_vectors(cases) else _SOURCE)
    first = -(-(SLOTS + slots.size * 4) // _ALIGN) * _ALIGN
    end = first + len(cases) * cases.itemsize
    output = -(-end // _ALIGN) * _ALIGN
    words = np.zeros(first // 4, dtype=">u4")
    words[: len(code) // 4] = np.frombuffer(code, ">u4")
    for low, high in (TRAPS, (SLOTS, first)):
        words[low // 4 : high // 4] = _TRAP
    body = words[SLOTS // 4 :][: slots.size].reshape(slots.shape)
    body[:, :5] = slots[:, :5]
    at = SLOTS + 4 * SLOT * np.arange(len(slots)) + 20
    body[:, 5] = 0x48000000 | (symbols["finished"] - at) & 0x03FFFFFC
    words[_CURRENT // 4], words[_RESULT // 4], words[_END // 4] = first, output, end
    words[0x3000 // 4] = branch(0x3000, symbols["start"])
    return words.tobytes() + cases.tobytes(), output


def run(name: str, slots: npt.NDArray[np.uint32], cases: Cases, deadline: float = 60) -> Results:
    """Run every case and return the results, in the same order.

    ``slots`` are rows of words: two before the word under test, itself, two after, and room for
    the way out. The slot n lies at ``SLOTS + 4 * SLOT * n``. Raises `TargetTimeout` when the cases
    do not end.
    """
    assert slots.shape[1] == SLOT
    vectors = has_vectors(cases)
    assert cases.dtype == (VECTOR_CASE if vectors else CASE)
    kind = VECTOR_RESULT if vectors else RESULT
    memory, output = _memory(slots, cases)
    size = output + len(cases) * kind.itemsize
    _, symbols = program(_VECTOR_SOURCE if vectors else _SOURCE)
    with tempfile.NamedTemporaryFile(prefix="kgdbpatch-cases-") as file:
        file.write(memory)
        file.flush()
        arguments = [
            *("-device", f"loader,file={file.name},addr=0,force-raw=on"),
            *("-device", "loader,addr=0x3000,cpu-num=0"),
            "-S",  # the debugger starts it, for it might not be able to stop it: see `deviations`
        ]
        machine = MachineDescription.load("g3beige")
        if vectors:
            machine = replace(machine, cpu="7400", architecture="powerpc:7400")
        with Qemu.start(name, machine, size // _MIB + 2, arguments) as qemu, Debugger(qemu) as debugger:
            with debugger.stopped() as session:
                session.run_to_physical(symbols["done"], deadline)
            return np.frombuffer(qemu.ram.read(output, len(cases) * kind.itemsize), kind)
