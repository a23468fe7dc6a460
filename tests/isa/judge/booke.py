"""Run cases on a bare CPU of Book E of QEMU, or a 405: what the table says of its instructions is judged."""

from __future__ import annotations

import struct
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from bare.program import branch, program

from kgdbpatch.isa import e500, ppc405, ppc440
from kgdbpatch.isa.decode import decode
from kgdbpatch.isa.registers import names
from kgdbpatch.isa.table import Kind, Row
from kgdbpatch.vm.gdb import Debugger
from kgdbpatch.vm.machine import MachineDescription
from kgdbpatch.vm.qemu import Qemu

__all__ = ["E500", "PPC405", "PPC440", "Core", "Verdict", "judged", "verdict"]


class Core(NamedTuple):
    """A CPU: the model of its instructions, QEMU's board, the program that runs cases, MiB of RAM."""

    model: str
    board: str
    source: Path
    memory: int = 64


E500 = Core(e500.MODEL, "ppce500", Path(__file__).with_name("e500.s"))
PPC440 = Core(ppc440.MODEL, "bamboo", Path(__file__).with_name("ppc440.s"))
PPC405 = Core(ppc405.MODEL, "ref405ep", Path(__file__).with_name("ppc405.s"), 128)
_STATE = np.dtype(
    [
        ("r", ">u4", (32, 2)),  # the upper half first
        ("acc", ">u4", 2),
        *((name, ">u4") for name in ("spefscr", "cr", "xer", "ctr", "lr", "entry", "trapped", "pad")),
        ("rest", "u1", 24),
        ("window", "u1", 64),
    ]
)
_CASE_BYTES, _WINDOW = 384, 0x140
_SLOTS, _SLOT = 0x1_0000, 8
_CASE = np.dtype({"names": ["s"], "formats": [_STATE], "offsets": [0], "itemsize": _CASE_BYTES})
_EDGES = np.array(
    [0, 1, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 0x3F80_0000, 0xBF80_0000, 0x7F7F_FFFF], np.uint32
)
_SPEFSCR = 0x0000_0003  # rounding; no exception is enabled, which QEMU would not take
_XER = {"so": 1 << 31, "ov": 1 << 30, "ca": 1 << 29, "string": 0x7F}

Cases = npt.NDArray[np.void]


def judged(row: Row) -> bool:
    """Tell whether a row is of those that can be run in a loop: no system state, no caches."""
    return row.kind in (Kind.ARITHMETIC, Kind.LOAD, Kind.STORE) and not row.privileged


def _words(row: Row, random: np.random.Generator, count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        word = row.match | int(random.integers(1 << 32)) & ~row.mask & 0xFFFF_FFFF
        d, a, b = (word >> shift & 31 for shift in (21, 16, 11))
        if row.base is None or (a and a not in (b, d) and (row.offset != "B" or b != d)):
            found.append(word)
    return found


def _random(random: np.random.Generator, count: int) -> Cases:
    cases = np.zeros(count, _CASE)
    state = cases["s"]

    def words(*shape: int) -> npt.NDArray[np.uint32]:
        plain = random.integers(0, 1 << 32, shape, dtype=np.uint32)
        return np.where(random.random(shape) < 0.4, random.choice(_EDGES, shape), plain)

    state["r"], state["acc"] = words(count, 32, 2), words(count, 2)
    state["spefscr"] = random.integers(0, 4, count)
    state["xer"] = random.integers(0, 8, count) << 29 | random.integers(0, 128, count)
    for name in ("cr", "ctr", "lr"):
        state[name] = words(count)
    state["window"] = random.integers(0, 256, (count, 64))
    return cases


def _lead(row: Row, word: int, state: np.void, random: np.random.Generator) -> None:
    """Have a load or store reach the window."""
    if row.base is None:
        return
    a, b = word >> 16 & 31, word >> 11 & 31
    index = 8 * int(random.integers(4)) if row.offset == "B" else b * row.width
    if row.offset == "B":
        state["r"][b][1] = index
    state["r"][a][1] = _WINDOW + 8 * int(random.integers(4)) - (0 if row.offset == "B" else index)


def _run(core: Core, words: npt.NDArray[np.uint32], cases: Cases) -> Cases:
    """Run every case at the slot of its word; return the states after it."""
    code, symbols = program(core.source)
    first = -(-(_SLOTS + _SLOT * len(words)) // 0x1000) * 0x1000
    output = first + cases.nbytes
    memory = np.zeros(first, np.uint8)
    memory[: len(code)] = np.frombuffer(code, np.uint8)
    slots = np.zeros((len(words), 2), ">u4")
    slots[:, 0] = words
    slots[:, 1] = [branch(_SLOTS + _SLOT * n + 4, symbols["finished"]) for n in range(len(words))]
    memory[_SLOTS : _SLOTS + slots.nbytes] = np.frombuffer(slots.tobytes(), np.uint8)
    at = symbols["parameters"]
    memory[at : at + 12] = np.frombuffer(struct.pack(">3I", first, output, output), np.uint8)
    data = memory.tobytes() + cases.tobytes()
    header = struct.pack(
        ">4s5B7x2H5I6H", b"\x7fELF", 1, 2, 1, 0, 0, 2, 20, 1, symbols["_start"], 52, 0, 0, 52, 32, 1, 0, 0, 0
    )
    load = struct.pack(">8I", 1, 0x1000, 0, 0, len(data), output + cases.nbytes, 7, 0x1000)
    with tempfile.NamedTemporaryFile(prefix="kgdbpatch-cases-") as file:
        file.write((header + load).ljust(0x1000, b"\0") + data)
        file.flush()
        board = MachineDescription.load(core.board)
        arguments = ["-kernel", file.name, "-S"]
        with (
            Qemu.start(f"judge-{core.model}", board, core.memory, arguments) as qemu,
            Debugger(qemu) as debugger,
        ):
            with debugger.stopped() as session:
                session.run_to_physical(symbols["done"], 120)
            return np.frombuffer(qemu.ram.read(output, cases.nbytes), _CASE)


def _columns(cases: Cases) -> dict[str, npt.NDArray[np.uint64]]:
    """Return what each register of the table holds, as numbers that hardly any other contents have."""
    state = cases["s"]
    found: dict[str, npt.NDArray[np.uint64]] = {
        f"r{n}": state["r"][:, n, 1].astype(np.uint64) for n in range(32)
    }
    found |= {
        f"cr{n}": (state["cr"].astype(np.uint64) >> np.uint64(28 - 4 * n)) & np.uint64(15) for n in range(8)
    }
    found |= {name: state[name].astype(np.uint64) for name in ("ctr", "lr")}
    found |= {name: state["xer"].astype(np.uint64) & np.uint64(bits) for name, bits in _XER.items()}
    spe = state["spefscr"].astype(np.uint64)
    for part in (*(state["r"][:, n, 0] for n in range(32)), state["acc"][:, 0], state["acc"][:, 1]):
        spe = spe * np.uint64(0x9E37_79B9_7F4A_7C15) + part.astype(np.uint64)
    found["spe"] = spe
    window = np.zeros(len(state), np.uint64)
    for n in range(64):
        window = window * np.uint64(0x9E37_79B9_7F4A_7C15) + state["window"][:, n].astype(np.uint64)
    found["memory"] = window
    return found


def _copy(to: np.void, source: np.void, register: str) -> None:
    """Copy what a register of the table holds."""
    if register == "spe":
        to["r"][:, 0], to["acc"], to["spefscr"] = source["r"][:, 0], source["acc"], source["spefscr"]
    elif register in _XER:
        to["xer"] = int(to["xer"]) & ~_XER[register] | int(source["xer"]) & _XER[register]
    elif register.startswith("cr"):
        bits = 0xF << 28 - 4 * int(register[2:])
        to["cr"] = int(to["cr"]) & ~bits | int(source["cr"]) & bits
    elif register[0] == "r":
        to["r"][int(register[1:])][1] = source["r"][int(register[1:])][1]


@dataclass
class Verdict:
    """What the CPU says otherwise than the table, which words trap, and which uses were seen to matter."""

    disagreements: set[tuple[str, str]] = field(default_factory=set)
    trapped: set[str] = field(default_factory=set)
    shown: dict[tuple[str, str], bool] = field(default_factory=lambda: defaultdict(bool))


def verdict(core: Core, rows: list[Row], each: int, seed: int) -> Verdict:
    """Run words of all rows: as they are, with all else changed, and with each use changed alone."""
    random = np.random.default_rng(seed)
    words, plans = list[int](), list[tuple[int, str]]()  # of each case: its word's number, what is changed
    for row in rows:
        for word in _words(row, random, each):
            uses = names(decode(word, 0, core.model).uses)
            plans += [(len(words), purpose) for purpose in ("", "others", *uses)]
            words.append(word)
    of_row = [row for row in rows for _ in range(each)]
    cases, base = _random(random, len(plans)), 0
    for number, (which, changed) in enumerate(plans):
        row, word, state = of_row[which], words[which], cases["s"][number]
        if not changed:
            base = number
            _lead(row, word, state, random)
        other = cases["s"][number].copy()
        if changed == "others":
            keep = names(decode(word, 0, core.model).uses)
        elif changed:
            keep = [f"r{n}" for n in range(32)] + [f"cr{n}" for n in range(8)] + ["spe", *_XER]
            keep.remove(changed)
        if changed:
            for register in keep:
                _copy(state, cases["s"][base], register)
            if changed != "others":
                for name in ("ctr", "lr"):
                    state[name] = cases["s"][base][name]
            state["window"] = cases["s"][base]["window"]
            if row.base is not None and changed in (f"r{word >> 16 & 31}", f"r{word >> 11 & 31}"):
                _copy(state, other, changed)
                moved = int(cases["s"][base]["r"][int(changed[1:])][1]) ^ 8
                if changed == f"r{word >> 16 & 31}" or row.offset == "B":
                    state["r"][int(changed[1:])][1] = moved
        state["entry"] = _SLOTS + _SLOT * which
    after = _run(core, np.array(words, np.uint32), cases)
    return _compared(
        core, words, of_row, plans, _columns(cases), _columns(after), after["s"]["trapped"].tolist()
    )


def _compared(
    core: Core,
    words: list[int],
    of_row: list[Row],
    plans: list[tuple[int, str]],
    before: dict[str, npt.NDArray[np.uint64]],
    after: dict[str, npt.NDArray[np.uint64]],
    trapped: list[int],
) -> Verdict:
    found, base = Verdict(), 0
    for number, (which, changed) in enumerate(plans):
        row, one = of_row[which], decode(words[which], 0, core.model)
        if trapped[number]:
            found.trapped.add(row.mnemonic)
            continue
        defs = set(names(one.defs)) | ({"memory"} if row.kind is Kind.STORE else set())
        for name in before:
            if name not in defs and before[name][number] != after[name][number]:
                found.disagreements.add((row.mnemonic, f"changes {name}"))
        if not changed:
            base = number
        elif changed == "others":
            for name in defs:
                if after[name][base] != after[name][number]:
                    found.disagreements.add((row.mnemonic, f"{name} depends on more"))
        else:
            matters = any(after[name][base] != after[name][number] for name in defs)
            operand = changed if changed in ("spe", *_XER) else "cr" if changed.startswith("cr") else "r"
            found.shown[row.mnemonic, operand] |= matters
    return found
