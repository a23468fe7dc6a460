"""Real QEMUs with a few instructions of bare-metal code, no firmware, no kernel."""

from __future__ import annotations

import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kgdbpatch.target.gdb import Debugger
from kgdbpatch.target.machine import MachineDescription
from kgdbpatch.target.qemu import Qemu

COUNTER = 0x2000  # physical address of the word that the loop counts in
LOOP, SUM, CARRY, NAP = 0x1000, 0x1100, 0x1200, 0x1300

CODE = {
    LOOP: (
        0x3C600000,  # lis   r3,0
        0x60632000,  # ori   r3,r3,COUNTER
        0x80830000,  # lwz   r4,0(r3)
        0x38840001,  # addi  r4,r4,1
        0x90830000,  # stw   r4,0(r3)
        0x4BFFFFF4,  # b     LOOP+8
    ),
    SUM: (
        0x38A0002A,  # li    r5,42
        0x38C50001,  # addi  r6,r5,1
        0x60000000,  # nop
        0x48000000,  # b     .
    ),
    CARRY: (
        0x38A00000,  # li    r5,0
        0x7CC52914,  # adde  r6,r5,r5
        0x60000000,  # nop
        0x48000000,  # b     .
    ),
    NAP: (
        0x3CE00080,  # lis   r7,HID0[DOZE]
        0x7CF0FBA6,  # mtspr HID0,r7
        0x7D0000A6,  # mfmsr r8
        0x65080004,  # oris  r8,r8,MSR[POW]
        0x7D000124,  # mtmsr r8
        0x48000000,  # b     .
    ),
}

Starter = Callable[[str], Qemu]


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    memory = bytearray(0x1000)
    for address, words in CODE.items():
        struct.pack_into(f">{len(words)}I", memory, address - LOOP, *words)
    path = tmp_path_factory.mktemp("program") / "program.bin"
    path.write_bytes(memory)
    return path


@pytest.fixture(scope="session")
def runtime() -> Iterator[Path]:
    """A runtime directory of this session, with a path short enough for sockets."""
    directory = Path(tempfile.mkdtemp(prefix="kgdbpatch-"))
    try:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("KGDBPATCH_RUNTIME", str(directory))
            yield directory
    finally:
        shutil.rmtree(directory)


def loader(program: Path) -> list[str]:
    return [
        *("-device", f"loader,file={program},addr={LOOP:#x},force-raw=on"),
        *("-device", f"loader,addr={LOOP:#x},cpu-num=0"),
    ]


@pytest.fixture
def start(runtime: Path, program: Path) -> Iterator[Starter]:
    """Start guests that run the counting loop; whatever of them still runs is ended."""
    started: list[Qemu] = []

    def begin(name: str) -> Qemu:
        started.append(Qemu.start(name, MachineDescription.load("g3beige"), 32, loader(program)))
        return started[-1]

    yield begin
    for qemu in started:
        qemu.shutdown()


@pytest.fixture(scope="module")
def qemu(runtime: Path, program: Path) -> Iterator[Qemu]:
    with Qemu.start("shared", MachineDescription.load("g3beige"), 32, loader(program)) as started:
        yield started


@pytest.fixture(scope="module")
def debugger(qemu: Qemu) -> Iterator[Debugger]:
    with Debugger(qemu) as started:
        yield started


def count(qemu: Qemu) -> int:
    return int.from_bytes(qemu.ram.read(COUNTER, 4), "big")


def runs(qemu: Qemu) -> bool:
    """Tell whether the loop counts, by its own clock: QEMU's monitor answers in between."""
    before = count(qemu)
    return qemu.hmp("info status") == "VM status: running" and count(qemu) != before
