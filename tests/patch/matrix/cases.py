"""Lay the forms out in memory, each at sites of several geometries, as they were and as they are patched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from kgdbpatch.errors import Refused
from kgdbpatch.isa import encode
from kgdbpatch.isa.abi import DARWIN, SYSV
from kgdbpatch.isa.decode import Kind, decode
from kgdbpatch.isa.registers import names
from kgdbpatch.patch.plan import Payload, Place, Plan, Site, asm_payload, count_payload, plan

from .forms import Form, forms
from .machine import CASE, STACK_POINTER

__all__ = ["Case", "Layout", "lay_out"]

MIB = 1 << 20
_LANDINGS = range(0x0300_0000, 0x0300_4000, 16)  # where LR, CTR and SRR0 may lead
_COUNTERS, _ALIGNED = 0x0070_0000, range(0x0800_0000, 0x0980_0000, 0x1_0000)
_MSR, _MSR_RI = 0x9000, 2  # EE and ME

FREE = [
    frozenset(names_.split())
    for names_ in (
        "",
        "r12 ctr",
        "r3 r4 lr cr0 ctr",
        "r12",
        "ctr",
        "lr",
        "r3 r4 r5 cr0",
        "r0",
        "r0 r3 r4 r5 r6 r7 r8 r9 r10 r11 r12 lr ctr cr0 cr1 cr5 cr6 cr7 ca ov",
        "ctr lr",
        "r9 cr5",
        "r30 r31 lr",
    )
]


@dataclass(frozen=True)
class Geometry:
    """Where sites, bodies and springboards lie; ``back`` tells whether a body reaches its site."""

    name: str
    sites: int
    bodies: int
    springboards: int | None = None
    back: bool = True


GEOMETRIES = [
    Geometry("behind", 0x0400_0000, 0x0480_0000),
    Geometry("before", 0x0410_0000, 0x03C0_0000),
    Geometry("springboard", 0x0100_0000, 0x0A00_0000, 0x00F0_0000),
    Geometry("low body", 0x0700_0000, 0x00E0_0000, back=False),
]


@dataclass
class Case:
    """One patch: where it is, what is free there, and what became of it."""

    form: Form
    geometry: str
    site: Site
    made: Plan
    counter: int | None

    def __str__(self) -> str:
        free = " ".join(sorted(self.site.free)) or "nothing"
        return f"{self.form.text} at 0x{self.site.address:08x} ({self.geometry}; free: {free})"


@dataclass
class Layout:
    """Memory before and after, the cases, and the refusals."""

    before: dict[int, int] = field(default_factory=dict)
    after: dict[int, int] = field(default_factory=dict)
    cases: list[Case] = field(default_factory=list)
    states: list[npt.NDArray[np.void]] = field(default_factory=list)
    refused: list[tuple[Site, str, Refused]] = field(default_factory=list)


_FREEABLE = [*(f"r{n}" for n in range(32) if n not in (1, 2, 13)), *(f"cr{n}" for n in range(8))]
_FREEABLE += ["lr", "ctr", "ca", "ov", "so"]


def _some_free(random: np.random.Generator) -> frozenset[str]:
    """Return a random set of free registers, mostly a small one."""
    share = random.random() ** 2
    return frozenset(name for name in _FREEABLE if random.random() < share)


def _clobber(random: np.random.Generator) -> Payload:
    """Return code that changes registers: all that calls may change, or any at random."""
    chosen = [n for n in range(32) if n not in (1, 2, 13) and random.random() < 0.4]
    special = [random.random() < 0.5 for _ in range(4)]
    if random.random() < 0.5:
        chosen, special = [0, *range(3, 13)], [True] * 4
    words = [encode.addi(n, 0, 0x100 + n) for n in chosen]
    fields = 0xFF if random.random() < 0.5 else 1 << int(random.integers(0, 8))
    moves = (encode.mtlr(3), encode.mtctr(4), encode.mtcrf(fields, 5), encode.mtxer(6))
    words += [word for word, wanted in zip(moves, special, strict=True) if wanted]
    words = words or [encode.nop()]
    return asm_payload(lambda _at: words, 0, DARWIN, counted=bool(random.random() < 0.7))


def _nothing() -> Payload:
    return Payload(emit=lambda _at, _blob: [], clobbers=0, calls=False, counted=False)


class _Builder:
    def __init__(self, seed: int) -> None:
        self.layout = Layout()
        self._random = np.random.default_rng(seed)
        self._landings: set[int] = set(_LANDINGS)
        self._next = {g.name: [g.sites, g.bodies, g.springboards or 0] for g in GEOMETRIES}
        self._counter = _COUNTERS
        self._aligned = iter(_ALIGNED)

    def _site(self, geometry: Geometry, form: Form) -> int:
        place = self._next[geometry.name]
        while True:
            at = place[0] = place[0] + 0x48
            landing = form.target(at)
            taken = [at - 8, at - 4, at, *([at + 4] if form.then else [])]
            behind = at + 8 if form.then else at + 4
            lands = {behind} if landing in (None, at) else {behind, landing}
            if self._landings.isdisjoint(taken) and not any(
                word in self.layout.before for word in (*taken, *lands)
            ):
                self._landings |= lands
                return at

    def _new_counter(self) -> int:
        at = next(self._aligned, None) if self._random.random() < 0.25 else None
        if at is not None:
            return at
        self._counter += 8
        return self._counter

    def add(self, form: Form, geometry: Geometry, free: frozenset[str], payload: Payload) -> None:
        """Plan one patch, put it and its original into memory, and make the state to run both in."""
        at = self._site(geometry, form)
        instruction = decode(form.word, at)
        uses, defs = frozenset(names(instruction.uses)), frozenset(names(instruction.defs))
        if instruction.kind in (Kind.SYSCALL, Kind.RFI):
            uses = defs = frozenset()
        site = Site(instruction, free - uses, free - uses - defs, DARWIN if at & 8 or form.red_zone else SYSV)
        place = self._next[geometry.name]
        counter = self._new_counter()
        board = place[2] if geometry.springboards else None
        try:
            made = plan(site, payload, Place(place[1], board, counter))
        except Refused as refused:
            self.layout.refused.append((site, geometry.name, refused))
            return
        place[1] += -(-len(made.code) // 32) * 32
        place[2] += len(made.springboard_code)
        lead = {at - 8: 0x7FDA_03A6, at - 4: 0x7FFB_03A6} if instruction.kind is Kind.RFI else {}
        around = {**lead, at + 4: form.then} if form.then else lead
        self.layout.before |= {at: form.word, **around}
        self.layout.after |= {at: made.splice, **around}
        for start, code in ((made.body, made.code), (made.springboard or 0, made.springboard_code)):
            for index in range(0, len(code), 4):
                word = int.from_bytes(code[index : index + 4], "big")
                self.layout.after[start + index] = word
                assert start + index not in self._landings
        self.layout.cases.append(Case(form, geometry.name, site, made, counter if payload.counted else None))
        self.layout.states.append(self._state(site, at - 8 if lead else at))

    def _landing(self) -> int:
        return int(self._random.choice(_LANDINGS)) | int(self._random.integers(0, 4))

    def _state(self, site: Site, entry: int) -> npt.NDArray[np.void]:
        random, instruction = self._random, site.instruction
        state = np.zeros(1, CASE)
        state["entry"], state["site"] = entry, instruction.address
        state["msr"] = _MSR | int(random.integers(0, 2)) * _MSR_RI
        state["cr"] = random.integers(0, 1 << 32)
        state["xer"] = int(random.integers(0, 1 << 32)) & 0xE000_007F
        state["r"] = random.integers(0, 1 << 32, 32)
        state["r"][0, 1] = STACK_POINTER[site.abi.name]
        state["r"][0, 31] = _MSR | int(random.integers(0, 2)) * _MSR_RI  # for mtmsr, and SRR1 of rfi
        if instruction.kind is Kind.RFI:
            state["r"][0, 30] = self._landing()
        state["lr"] = (
            self._landing() if instruction.mnemonic.startswith("bclr") else random.integers(0, 1 << 32)
        )
        if instruction.mnemonic.startswith("bcctr"):
            state["ctr"] = self._landing()
        elif instruction.target == site.address:  # a loop shall end soon or never
            state["ctr"] = random.choice([1, 2, 3, 9])
        else:
            state["ctr"] = random.choice([0, 1, 2, 3, int(random.integers(0, 1 << 32))])
        return state


def _choices(number: int, random: np.random.Generator) -> Iterator[tuple[Geometry, frozenset[str]]]:
    """Yield the geometries and free sets of the form of a number: none, chosen and random ones."""
    for offset, geometry in enumerate(GEOMETRIES):
        if geometry.back:
            yield geometry, FREE[0]
            yield geometry, _some_free(random)
        yield geometry, FREE[1 + (number + offset * 3) % (len(FREE) - 1)]
        yield geometry, FREE[8 if (number + offset) % 2 else 2]


def lay_out(seed: int) -> Layout:
    """Return all cases of all forms."""
    builder, random = _Builder(seed), np.random.default_rng(seed + 1)
    for number, form in enumerate(forms()):
        for turn, (geometry, free) in enumerate(_choices(number, random)):
            payloads = count_payload(), _nothing(), _clobber(random)
            builder.add(form, geometry, free, payloads[(number + turn) % len(payloads)])
    return builder.layout
