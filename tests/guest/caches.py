"""What a CPU with caches would do: a judge of the stub's own instructions, watched one by one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum

import pytest

from kgdbpatch.component.layout import Flushed
from kgdbpatch.cpu.ppc6xx import Ppc6xx
from kgdbpatch.isa import encode
from kgdbpatch.vm.gdb import GRegisters, Session

LINE = Ppc6xx.line
DCBF, ICBI, SYNC, ISYNC = 0x7C0000AC, 0x7C0007AC, 0x7C0004AC, 0x4C00012C
CACHE_OPERATION = 0xFFE007FE
STW = 36


class Stage(IntEnum):
    """How far a line of new code has come (PEM 5.1.5.2)."""

    STORED = 0  # it may be in the data cache alone
    ON_ITS_WAY = 1  # dcbf was obeyed
    IN_MEMORY = 2  # and completed
    INVALID = 3  # icbi was obeyed; the old words may be fetched still
    FETCHED_ANEW = 4  # and completed; what was prefetched is left


@dataclass
class Caches:
    """The lines that are not yet seen by instruction fetch, from every store and cache operation."""

    stages: dict[int, Stage] = field(default_factory=dict)
    flushed: list[tuple[Flushed, int]] = field(default_factory=list)  # (cache, line), as executed
    stores: dict[int, set[int]] = field(default_factory=dict)  # address ─► lines not seen yet then

    def store(self, address: int, size: int) -> None:
        for line in range(address & -LINE, address + size, LINE):
            self.stages[line] = Stage.STORED

    def step(self, word: int, registers: GRegisters) -> None:
        """Take note of one instruction before it is executed."""
        a, b, displacement = word >> 16 & 31, word >> 11 & 31, (word & 0xFFFF ^ 0x8000) - 0x8000
        base = registers[f"r{a}"] if a else 0
        if word >> 26 == STW:
            address = base + displacement & 0xFFFF_FFFF
            self.stores[address] = set(self.stages)
            self.store(address, 4)
        elif word & CACHE_OPERATION in (DCBF, ICBI):
            kind = Flushed.DATA if word & CACHE_OPERATION == DCBF else Flushed.CODE
            line = (base + registers[f"r{b}"]) & 0xFFFF_FFFF & -LINE
            self.flushed.append((kind, line))
            if kind is Flushed.DATA:
                self._advance({Stage.STORED: Stage.ON_ITS_WAY}, line)
            else:
                self._advance({Stage.IN_MEMORY: Stage.INVALID}, line)
        elif word == SYNC:
            self._advance({Stage.ON_ITS_WAY: Stage.IN_MEMORY, Stage.INVALID: Stage.FETCHED_ANEW})
        elif word == ISYNC:
            self.stages = {line: s for line, s in self.stages.items() if s is not Stage.FETCHED_ANEW}

    def _advance(self, steps: dict[Stage, Stage], line: int | None = None) -> None:
        for at in [line] if line is not None else list(self.stages):
            stage = self.stages.get(at)
            if stage in steps:
                self.stages[at] = steps[stage]


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Caches]:
    """Watch every write of the debugger, and every instruction of the stub, which runs step by step."""
    caches = Caches()
    write = Session.write_physical

    def writing(self: Session, address: int, data: bytes, *, later: bool = False) -> None:
        caches.store(address, len(data))
        write(self, address, data, later=later)

    def stepping(self: Session, address: int, deadline: float) -> GRegisters:
        while (registers := GRegisters(self.read_all()))["pc"] != address:
            word = int.from_bytes(self.read_physical(registers["pc"], 4), "big")
            assert word >> 26 not in (37, 38, 39, 44, 45, 46, 47), "a store that is not watched"
            caches.step(word, registers)
            self.packet("vCont;s:p1.1")
        return registers

    with monkeypatch.context() as patched:
        patched.setattr(Session, "write_physical", writing)
        patched.setattr(Session, "run_to_physical", stepping)
        yield caches


def cache_instructions(code: bytes) -> dict[str, list[int]]:
    """Return the offsets in the stub of its cache routine's instructions, and of the calls of it."""
    words = [int.from_bytes(code[at : at + 4], "big") for at in range(0, len(code), 4)]
    offsets = range(0, len(code), 4)
    found = {
        name: [at for at, word in zip(offsets, words, strict=True) if word & CACHE_OPERATION == operation]
        for name, operation in (("dcbf", DCBF), ("icbi", ICBI))
    }
    start = found["dcbf"][0]
    end = words.index(ISYNC, start // 4) * 4
    found["sync"] = [at for at in range(start, end, 4) if words[at // 4] == SYNC]
    found["isync"] = [end]
    calls = [
        (at, encode.branch_target(at, word)) for at, word in zip(offsets, words, strict=True) if word & 1
    ]
    found["call"] = [
        at for at, to in calls if words[at // 4] >> 26 == 18 and to and start - 32 <= to <= start
    ]
    return found
