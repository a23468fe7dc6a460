"""Compare what the CPU did with what the table says."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from kgdbpatch.isa.decode import Kind, decode
from kgdbpatch.isa.fields import FIELDS
from kgdbpatch.isa.registers import REGISTERS, bit, mask

from .layout import COLUMN, Columns, Results, columns_after, columns_before
from .places import Bools, Indices, Places
from .runs import BASE, FLIP, OUTSIDE, USER, Runs, defined
from .sandwich import Sandwich
from .states import MSR_PR
from .words import Probes

__all__ = ["Verdict", "judge"]

_PROGRAM, _SYSCALL = 0x700, 0xC00
_FLOAT, _PRIVILEGED, _TRAP = 0x100000, 0x40000, 0x20000  # SRR1 of a program exception
_TICKING = {22, 268, 269, 284, 285}  # special registers that change by themselves
_MAY_TRAP = {Kind.TRAP, Kind.SYSCALL}
_MAY_GO = {Kind.BRANCH, Kind.JUMP, Kind.CALL, Kind.RETURN, Kind.INDIRECT, Kind.RFI}
_MSR = [COLUMN[name] for name in ("msr", "srr0", "srr1")]


@dataclass
class Verdict:
    """The outcome: disagreements in words for people; what was shown of each variant's uses.

    ``shown[variant, name]`` counts runs in which changing the use ``name`` (a field of the table
    or a register) changed the outcome, and runs in which that alone was changed.
    """

    disagreements: list[str] = field(default_factory=list)
    shown: dict[tuple[int, str], list[int]] = field(default_factory=dict)
    trapped: set[int] = field(default_factory=set)
    cases: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))


class _Judge:
    def __init__(
        self, probes: Probes, sandwich: Sandwich, places: Places, runs: Runs, results: Results
    ) -> None:
        self.probes, self.sandwich, self.places, self.runs, self.results = (
            probes,
            sandwich,
            places,
            runs,
            results,
        )
        self.rows = probes.rows
        self.verdict = Verdict()
        self.before, self.after = columns_before(runs.cases, results), columns_after(results)
        self._see_through()
        self.address = probes.addresses[runs.probe].astype(np.int64)
        self.vector = results["vector"].astype(np.int64)
        self.srr0 = results["srr0"].astype(np.int64)
        self.at_word = (self.vector != 0) & (self.srr0 == self.address)
        elsewhere = (self.vector == _PROGRAM) & ~self.at_word
        late = elsewhere & (results["srr1"] & _FLOAT != 0)  # see `deviations`
        self.late = np.isin(runs.probe, runs.probe[late])
        self.gone = elsewhere & ~late  # to a trap word
        self.refused = self.at_word & (self.vector == _PROGRAM) & (results["srr1"] & _TRAP == 0)

    def _see_through(self) -> None:
        """Put state that the words around reach into the columns, and hide what those words change."""
        n = np.arange(len(self.runs.probe))
        self.source, self.sink = self.sandwich.source[self.runs.probe], self.sandwich.sink[self.runs.probe]
        self._forget_absent()
        for column in range(self.before.shape[1]):
            for registers, columns in ((self.source, self.before), (self.sink, self.after)):
                register = registers[:, column]
                has = register >= 0
                if column == COLUMN["reservation"]:
                    continue
                columns[n[has], column] = columns[n[has], register[has]]
        without_sink = self.sink < 0
        for name in ("sr", "spr"):
            hidden = without_sink[:, COLUMN[name]]
            self.after[hidden, COLUMN[name]] = self.before[hidden, COLUMN[name]]
        scratch = self.sandwich.scratch[self.runs.probe]
        self.after[:, :32] = np.where(scratch, self.before[:, :32], self.after[:, :32])

    def _forget_absent(self) -> None:
        """Where reading a special register back leaves the target, the CPU lacks it: nothing was read."""
        column = COLUMN["spr"]
        n = np.nonzero(self.sink[:, column] >= 0)[0]
        q = self.sink[n, column]
        left = self.runs.cases["r"][n, q] == self.results["r"][n, q]
        variant = self.probes.variant[self.runs.probe[n]]
        reads = np.bincount(variant[~left], minlength=len(self.probes.variants))
        self.sink[n[reads[variant] == 0], column] = -1

    def complain(self, rule: str, bad: Bools, detail: Bools | None = None) -> None:
        """Note a disagreement for each word that has a bad run."""
        seen: set[int] = set()
        for run in np.nonzero(bad)[0].tolist():
            probe = int(self.runs.probe[run])
            variant = int(self.probes.variant[probe])
            if variant in seen:
                continue
            seen.add(variant)
            place = int(self.probes.addresses[probe])
            one = decode(int(self.probes.words[probe]), place, self.probes.model)
            text = f"{self.probes.variants[variant]}: 0x{one.word:08x} ({one.text}): {rule}"
            if detail is not None:
                text += f": {' '.join(np.array(REGISTERS)[: detail.shape[1]][detail[run]])}"
            if self.runs.flipped[run] >= 0:
                text += f" (with {REGISTERS[self.runs.flipped[run]]} flipped)"
            self.verdict.disagreements.append(text)

    def trapped(self) -> Bools:
        """Find the words that this CPU lacks: those are not judged further."""
        plain = self.runs.purpose == BASE
        lacking = self.at_word & ~np.isin(self.kinds(), [int(kind) for kind in _MAY_TRAP])
        floats = np.array([bool(row.defs & mask("fpscr")) for row in self.rows])[self.runs.probe]
        lacking &= ~(floats & (self.results["srr1"] & _FLOAT != 0))
        every = np.zeros(len(self.probes.words), np.bool_)
        every[self.runs.probe[plain & lacking & self.refused]] = True
        for variant in np.unique(self.probes.variant[every]).tolist():
            self.verdict.trapped.add(variant)
        odd = lacking & ~every[self.runs.probe] & (self.runs.purpose != USER)
        self.complain("trapped", odd)
        return every[self.runs.probe]

    def kinds(self) -> npt.NDArray[np.int64]:
        return np.array([int(row.kind) for row in self.rows])[self.runs.probe]

    def changes(self, judged: Bools) -> None:
        """Only what is defined changes."""
        changed = self.before != self.after
        trap = self.vector != 0
        changed[:, _MSR] &= ~trap[:, None]
        returned = np.isin(self.kinds(), [int(Kind.RFI)])
        changed[:, _MSR] &= ~returned[:, None]
        surplus = changed & ~defined(self.probes)[self.runs.probe]
        self.complain("changes more than its defs", judged & surplus.any(axis=1), surplus)

    def stores(self, judged: Bools) -> None:
        """Memory changes only where a store reaches."""
        changed = self.results["window"] != self.runs.cases["window"]
        store = np.isin(self.kinds(), [int(Kind.STORE)])
        inside = self.places.accessed(self.runs.cases, self.runs.probe) & store[:, None]
        self.complain("stores where it should not", judged & (changed & ~inside).any(axis=1))

    def outcome(self) -> Columns:
        """Return what a run came to, one row each: every register, and where it ended."""
        where = np.where(self.gone, self.srr0, self.vector)
        after = self.after.copy()
        after[:, _MSR] *= (self.vector == 0)[:, None].astype(np.uint64)
        returned = np.isin(self.kinds(), [int(Kind.RFI)])
        after[returned, COLUMN["msr"]] = self.results["srr1"][returned]
        return np.concatenate([after, where[:, None].astype(np.uint64)], axis=1)

    def compare(self, judged: Bools) -> None:
        """What is outside `uses` changes nothing; what is in it does."""
        outcome = self.outcome()
        first = np.zeros(len(self.probes.words), np.int64)
        base = np.nonzero(self.runs.purpose == BASE)[0]
        first[self.runs.probe[base]] = base
        first = first[self.runs.probe]
        window = self.results["window"]
        unlike = np.concatenate([outcome != outcome[first], window != window[first]], axis=1)
        defs = defined(self.probes)[self.runs.probe]
        width = self.before.shape[1]
        ticks = self.ticking()[self.runs.probe]
        relevant = unlike.copy()
        relevant[:, :width] &= defs & ~ticks[:, None]
        relevant[:, width + 1 :] &= self.places.accessed(self.runs.cases, self.runs.probe)
        outside = judged & (self.runs.purpose == OUTSIDE) & relevant.any(axis=1)
        self.complain("depends on more than its uses", outside, relevant[:, :width])
        flip = judged & (self.runs.purpose == FLIP)
        runs = np.nonzero(flip)[0]
        column = self.runs.flipped[runs]
        through = self.sandwich.source[self.runs.probe[runs], column]
        different = unlike[runs]
        passing = np.arange(len(runs))
        own = defs[runs, column]
        different[passing, column] &= own
        around = through >= 0
        different[passing[around], through[around]] = False
        self.note(runs, column, np.any(different, axis=1))

    def ticking(self) -> Bools:
        words = self.probes.words
        number = (words >> np.uint32(16) & 31) | (words >> np.uint32(11) & 31) << np.uint32(5)
        moves = np.array([row.mnemonic.startswith(("mfspr", "mftb", "mtspr")) for row in self.rows])
        return moves & np.isin(number, list(_TICKING))

    def note(self, runs: Indices, column: Indices, shown: Bools) -> None:
        """Count for each use of each variant in how many runs it mattered."""
        counts: dict[tuple[int, str], list[int]] = defaultdict(lambda: [0, 0])
        for run, register, seen in zip(runs.tolist(), column.tolist(), shown.tolist(), strict=True):
            probe = int(self.runs.probe[run])
            for name in self._labels(int(self.probes.words[probe]), probe, register):
                count = counts[int(self.probes.variant[probe]), name]
                count[0] += seen
                count[1] += 1
        self.verdict.shown.update(counts)

    def _labels(self, word: int, probe: int, register: int) -> list[str]:
        row = self.rows[probe]
        labels = [f for f in row.use_fields if FIELDS[f].scalar(word) >> register & 1]
        if row.uses >> register & 1:
            labels.append(REGISTERS[register])
        return labels if len(labels) == 1 else []

    def branches(self, judged: Bools) -> None:
        """Branches go where they say, conditional ones not always; nothing else goes anywhere."""
        may_go = np.isin(self.kinds(), [int(kind) for kind in _MAY_GO])
        self.complain("goes elsewhere", judged & self.gone & ~may_go)
        conditional = np.array([row.conditional for row in self.rows])[self.runs.probe]
        stays = judged & may_go & ~conditional & (self.vector == 0)
        self.complain("does not go anywhere", stays)
        fixed = [
            decode(int(w), int(a), self.probes.model).target
            for w, a in zip(self.probes.words, self.probes.addresses, strict=True)
        ]
        target = np.array([-1 if t is None else t for t in fixed])[self.runs.probe]
        self.complain("goes to another target", judged & self.gone & (target >= 0) & (target != self.srr0))
        call = np.isin(self.kinds(), [int(Kind.CALL)])
        self.complain(
            "leaves another return address", judged & call & (self.after[:, bit("lr")] != self.address + 4)
        )
        call_out = np.isin(self.kinds(), [int(Kind.SYSCALL)])
        wrong = (self.vector != _SYSCALL) | (self.srr0 != self.address + 4)
        self.complain("is no system call", judged & call_out & wrong)

    def privileges(self, lacking: Bools) -> None:
        """In user state exactly the privileged ones are refused."""
        user = (self.runs.purpose == USER) & ~lacking
        refused = self.refused & (self.results["srr1"] & _PRIVILEGED != 0)
        privileged = np.array([row.privileged for row in self.rows])[self.runs.probe]
        self.complain("is privileged", user & refused & ~privileged)
        self.complain("is not privileged", user & ~refused & privileged)


def judge(probes: Probes, sandwich: Sandwich, places: Places, runs: Runs, results: Results) -> Verdict:
    """Return the verdict over all runs."""
    court = _Judge(probes, sandwich, places, runs, results)
    assert (runs.cases["msr"][runs.purpose == USER] & MSR_PR).all()
    assert court.late.mean() < 1e-3
    lacking = court.trapped()
    judged = ~lacking & ~court.late & (runs.purpose != USER)
    court.changes(judged)
    court.stores(judged)
    court.compare(judged)
    court.branches(judged)
    court.privileges(lacking)
    court.verdict.cases = np.bincount(probes.variant[runs.probe], minlength=len(probes.variants))
    return court.verdict
