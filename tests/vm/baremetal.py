"""Bare-metal programs for the MPC750, and what can be seen of them from outside."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from pathlib import Path

from kgdbpatch.vm.machine import MachineDescription
from kgdbpatch.vm.qemu import Qemu

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

MEMORY_MIB = 32
Starter = Callable[[str], Qemu]


def image() -> bytes:
    """Return the programs as they lie from LOOP on."""
    memory = bytearray(0x1000)
    for address, words in CODE.items():
        struct.pack_into(f">{len(words)}I", memory, address - LOOP, *words)
    return bytes(memory)


def loader(program: Path) -> list[str]:
    """Return the arguments that start the counting loop without firmware."""
    return [
        *("-device", f"loader,file={program},addr={LOOP:#x},force-raw=on"),
        *("-device", f"loader,addr={LOOP:#x},cpu-num=0"),
    ]


def start(name: str, program: Path) -> Qemu:
    """Start a guest that runs the counting loop."""
    return Qemu.start(name, MachineDescription.load("g3beige"), MEMORY_MIB, loader(program))


def count(qemu: Qemu) -> int:
    return int.from_bytes(qemu.ram.read(COUNTER, 4), "big")


def runs(qemu: Qemu) -> bool:
    """Tell whether the loop counts, which takes long only where the host has more to do."""
    before, until = count(qemu), time.monotonic() + 5
    while qemu.hmp("info status") == "VM status: running":
        if count(qemu) != before:
            return True
        if time.monotonic() > until:
            break
    return False
