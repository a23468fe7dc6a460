"""Judge sites: which instructions of a running kernel may carry a patch, and what is free there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kgdbpatch.analysis.caller_frame import CallerFrame, Code, caller_frame
from kgdbpatch.analysis.cfg import FlowGraph
from kgdbpatch.analysis.hazard_filter import Hazard, HazardousWords, possible_hazards
from kgdbpatch.analysis.hazards import reservation_window, translation, untranslated
from kgdbpatch.analysis.liveness_index import LivenessIndex
from kgdbpatch.analysis.program import ImplicitEdges
from kgdbpatch.analysis.reach import Reach
from kgdbpatch.analysis.regset import FREEABLE, to_mask
from kgdbpatch.analysis.routines import runs_on
from kgdbpatch.analysis.stack import exception_return, no_stack, reads_exception
from kgdbpatch.errors import Refused
from kgdbpatch.image import Function, Image
from kgdbpatch.isa.altivec import has_altivec
from kgdbpatch.isa.decode import Instruction, Kind, decode
from kgdbpatch.isa.msr import KernelSpace
from kgdbpatch.isa.registers import ALL, FPRS, VECTORS, bit, mask, names
from kgdbpatch.patch.reentry import DirectCalls
from kgdbpatch.patch.rewritten import CHANGED, FTRACE, Rewritten, untraced
from kgdbpatch.patch.site import FORCEABLE, Site
from kgdbpatch.results import LiveRegisters

__all__ = ["OffLimits", "SiteChecker"]

Words = npt.NDArray[np.uint32]
Analysis = Callable[
    [Image, Sequence[tuple[int, Words]], Sequence[tuple[int, int]], ImplicitEdges, Mapping[int, int]],
    LivenessIndex,
]

_FREEABLE = to_mask(int(FREEABLE))
_NEAR = 0x1000  # bytes from a function in which a routine that it is a part of changes what matters
_PREFIX = 32  # bytes at a function's start that its tracing takes, at most
_LAST = 16  # words of a function that are looked at
_TOGETHER = 4096  # blocks decoded at once where many sites are judged

_NO_CODE = {
    Reach.TABLE: "is an entry of a jump table",
    Reach.NEVER: "is data, or code that never runs: no way leads there",
    Reach.DOUBTFUL: "may be data: only a branch with unknown targets or a stored address may lead there "
    "(--force takes it for code)",
}


@dataclass(frozen=True, slots=True)
class OffLimits:
    """What the guest's personality and its CPU's family know of places that must not be patched.

    At ``vectors`` the CPU enters untranslated, ``space`` is what its MSR says elsewhere; ``remaps`` tells of
    an instruction whether it changes what is mapped; ``discarded`` ranges are given up after boot; faults at
    ``fault_sites`` are looked up by address; the kernel itself rewrites the words ``rewritten``.
    """

    space: KernelSpace
    remaps: Callable[[Instruction], bool]
    untranslated_sections: frozenset[str]
    vectors: tuple[int, ...]
    discarded: tuple[tuple[int, int], ...]
    fault_sites: frozenset[int]
    implicit: ImplicitEdges
    rewritten: Mapping[int, Rewritten] = field(default_factory=dict)
    reads: Mapping[int, int] = field(default_factory=dict)  # instruction ─► what its other forms may read


@lru_cache(maxsize=1 << 14)
def _named(registers: int) -> frozenset[str]:
    return frozenset(names(registers))


class _Hazards(NamedTuple):
    """Addresses in a function by what is the matter with them."""

    window: set[int]  # a reservation is held
    off: set[int]  # translation may be off
    turning: set[int]  # turn translation off
    no_stack: set[int]
    returning: set[int]  # SRR0 or SRR1 is set for a coming rfi
    entered: bool  # they may be set wherever the function has not read them yet


class SiteChecker:
    """Answer what may be done at a site of one kernel.

    ``words(address, count)`` returns its instructions, patches undone; ``analysis`` analyses it, or
    remembers. Floating-point and vector registers are live everywhere (MSR[FP], MSR[VEC] may be 0), all where
    no code is known.
    """

    def __init__(
        self, image: Image, off_limits: OffLimits, words: Callable[[int, int], Words], analysis: Analysis
    ) -> None:
        self._image, self._off_limits, self._words, self._analysis = image, off_limits, words, analysis
        self._hazards = lru_cache(maxsize=256)(self._make_hazards)
        self._hazardous: HazardousWords | None = None

    def __repr__(self) -> str:
        return f"SiteChecker({self._image!r})"

    @cached_property
    def _index(self) -> LivenessIndex:
        off_limits = self._off_limits
        return self._analysis(
            self._image, self._sections(), self._functions(), off_limits.implicit, off_limits.reads
        )

    def direct_calls(self, *others: SiteChecker) -> DirectCalls:
        """Return which functions call which directly, of this kernel and of what ``others`` judge."""
        sections, functions, faults = self._sections(), self._functions(), {*self._off_limits.fault_sites}
        for one in others:
            sections, functions = [*sections, *one._sections()], [*functions, *one._functions()]
            faults |= one._off_limits.fault_sites
        return DirectCalls(sections, functions, faults)

    def _functions(self) -> list[tuple[int, int]]:
        """Return (address, bytes) of the functions that stay in memory after boot."""
        spans = self._image.functions.spans()
        for start, end in self._off_limits.discarded:
            spans = [span for span in spans if not start <= span[0] < end]
        return spans

    def _live(self, address: int) -> int:
        """Return the mask of what is live before an instruction."""
        found = self._index.live(address, self._untraced)
        live = ALL if found is None else to_mask(found) | FPRS
        return live | VECTORS if has_altivec(self._image.model) else live

    def _free(self, address: int) -> int:
        """Return the mask of what code put before an instruction may overwrite."""
        return _FREEABLE & ~self._live(address)

    def why(self, address: int) -> dict[str, int | None]:
        """Return for each live register the nearest instruction that may read it, None: it is reserved.

        A call or an exit of the function stands for what lies behind it. Raises `Refused` where no code is.
        """
        self.function(address)
        readers = self._index.why(address, self._untraced)
        found = {to_mask(1 << number).bit_length() - 1: place for number, place in readers.items()}
        return {name: found.get(bit(name)) for name in names(self._live(address))}

    def _untraced(self, address: int, count: int) -> Words:
        """Return words as they are while nothing is traced, for what is to be true of them at any time."""
        return untraced(self._off_limits.rewritten, address, self._words(address, count))

    def _sections(self) -> list[tuple[int, Words]]:
        """Return (address, words) of all code that stays in memory after boot."""
        return [
            (section.address, self._untraced(section.address, section.size // 4))
            for section in self._image.code_sections()
            if not self._discarded(section.address)
        ]

    def _make_hazards(self, function: Function) -> _Hazards:
        at, end = function.address, function.end
        if self._hazardous is None or self._hazardous.within(at - _NEAR, end + _NEAR):
            at, end = self._routine(function)
        count, bulk = (end - at) // 4, self._hazardous
        found = possible_hazards(self._words(at, count)) if bulk is None else bulk.within(at, end)
        if not found:  # as nearly all are; of the others not all is looked into
            return _Hazards(set(), set(), set(), set(), set(), entered=False)
        words = self._words(at, count)
        switched = found & (Hazard.SWITCHES | Hazard.RETURNS)
        off, turning = (
            translation(words, at, self._off_limits.space) if switched else (set[int](), set[int]())
        )
        graph = None
        if found & (Hazard.STACK | Hazard.RETURNS | Hazard.EXCEPTION):
            graph = FlowGraph(words, at, self._off_limits.implicit.all, model=self._image.model)
        return _Hazards(
            window=reservation_window(words, at) if found & Hazard.RESERVES else set(),
            off=off,
            turning=turning,
            no_stack=no_stack(graph) if graph and found & Hazard.STACK else set(),
            returning=exception_return(graph) if graph and found & Hazard.RETURNS else set(),
            entered=graph is not None and reads_exception(graph),
        )

    def _routine(self, function: Function) -> tuple[int, int]:
        """Return where code begins and ends that runs on from one function into the next, around one."""
        start, end = function.address, function.end
        while (before := self._neighbour(start - 4, function)) and self._runs_on(before.address, start):
            start = before.address
        at = function.address
        while self._runs_on(at, end) and (behind := self._neighbour(end, function)):
            at, end = behind.address, behind.end
        return start, end

    def _neighbour(self, address: int, function: Function) -> Function | None:
        """Return the function at an address that is in the same section as another one."""
        found = self._image.function_at(address)
        return found if found is not None and found.section == function.section else None

    def _runs_on(self, start: int, end: int) -> bool:
        count = min((end - start) // 4, _LAST)
        return runs_on(self._words(end - 4 * count, count))

    @contextmanager
    def in_bulk(self) -> Iterator[None]:
        """Judge many sites meanwhile: what is common to them is found out once, of the words now."""
        before = self._index.together
        self._hazardous, self._index.together = HazardousWords(self._sections()), _TOGETHER
        try:
            yield
        finally:
            self._hazardous, self._index.together = None, before

    @cached_property
    def _untranslated(self) -> frozenset[int]:
        return frozenset(untranslated(self._sections(), self._off_limits.vectors, self._off_limits.space))

    def _discarded(self, address: int) -> bool:
        return any(start <= address < end for start, end in self._off_limits.discarded)

    def function(self, address: int) -> Function:
        """Return the function around ``address``; raise `Refused` for what is no kernel code."""
        place = self._image.symbolize  # only where it is to be told
        if address & 3:
            raise Refused(
                "alignment",
                f"0x{address:08x} ({place(address)}) is no instruction: not a multiple of 4",
                address,
                address & ~3,
            )
        function = self._image.function_at(address)
        section = self._image.section_at(address)
        if function is None or section is None or not section.executable:
            what = f"section {section.name}" if section else "no section of the kernel"
            if section and not any(address in segment for segment in self._image.segments):
                what += ", which is not loaded"
            raise Refused("data", f"0x{address:08x} ({place(address)}) is not in a function: {what}", address)
        if self._discarded(address):
            raise Refused(
                "discarded",
                f"{place(address)} is start-up code in {section.name}; its memory is reused after boot",
                address,
            )
        return function

    def instruction(self, address: int) -> Instruction:
        """Return the running kernel's instruction at ``address``."""
        self.function(address)
        return self._decoded(address)

    def _decoded(self, address: int) -> Instruction:
        return decode(int(self._words(address, 1)[0]), address, self._image.model)

    def live(self, address: int) -> LiveRegisters:
        """Return which registers are live and which are free before ``address``, or raise `Refused`."""
        instruction = self.instruction(address)
        for refused in self.no_code(instruction):
            raise refused
        live, free = (tuple(names(mask)) for mask in (self._live(address), self._free(address)))
        return LiveRegisters(address, instruction.written_for(self._image.model), live, free)

    def entry(self, address: int) -> int:
        """Return where a patch for a function's first instruction stands, another address as it is.

        That is behind the words by which the kernel traces the function, where control comes only from them.
        """
        function = self._image.function_at(address)
        behind = address
        while self._traced(behind) and function is not None and behind < function.end:
            behind += 4
        if function is None or address != function.address or behind in (address, function.end):
            return address
        return address if self._index.entered_beside(behind) else behind

    def _traced(self, address: int) -> bool:
        own = self._off_limits.rewritten.get(address)
        return own is not None and own.kind == FTRACE

    def site(self, address: int, *, force: bool = False) -> Site:
        """Return the site at ``address``; or `Refused`, with ``force`` not by rules of `FORCEABLE`."""
        function, forced = self.function(address), list[str]()
        instruction = self._decoded(address)
        for refused in self._objections(function, instruction):
            if not force or not self._may_be_forced(refused, address):
                raise refused
            forced.append(refused.rule)
        hazards = self._hazards(function)
        untranslated = self._runs_untranslated(function, address)
        after = address + 4
        free_after = self._free(after) if after < function.end else 0
        # at the branch's target the same holds only for what is free there too
        if instruction.kind in (Kind.BRANCH, Kind.JUMP) and instruction.target not in (None, after):
            assert instruction.target is not None
            free_after &= self._free(instruction.target) if instruction.target in function else 0
        return Site(
            instruction=instruction,
            free=_named(self._free(address)),
            free_after=_named(free_after),
            abi=self._image.abi,
            stack=address not in hazards.no_stack and not untranslated,
            returning=address in hazards.returning,
            trappable=address not in hazards.returning and not hazards.entered,
            untranslated=untranslated,
            remaps=self._off_limits.remaps(instruction),
            force=force,
            forced=tuple(forced),
            entered=self._entered(function, address),
        )

    def _entered(self, function: Function, address: int) -> bool:
        """Tell whether ``address`` is a function's entry, behind its tracing at most, LR the caller's."""
        if not function.address <= address <= function.address + _PREFIX:
            return False
        if address != function.address and self.entry(function.address) != address:
            return False
        return bool(self._live(address) & mask("lr"))

    def caller_frame(self, function: Function) -> CallerFrame:
        """Return what a function does to its caller's frame."""
        return caller_frame(function.address, self.code(function.address), self._image.abi)

    def code(self, address: int) -> Code:
        """Return the program that an address is of."""
        return Code(self._row, self._index.block, self._index.never_returns)

    def _row(self, address: int, count: int) -> list[Instruction]:
        words, model = self._untraced(address, count).tolist(), self._image.model
        return [decode(word, address + 4 * index, model) for index, word in enumerate(words)]

    def _runs_untranslated(self, function: Function, address: int) -> bool:
        return address in self._untranslated or address in self._hazards(function).off

    def _may_be_forced(self, refused: Refused, address: int) -> bool:
        """Tell whether ``force`` lifts a refusal; of data, only where the word may well be code."""
        if refused.rule != "data":
            return refused.rule in FORCEABLE
        known = self.instruction(address).known
        return known and self._index.reach(address) == Reach.DOUBTFUL

    def _objections(self, function: Function, instruction: Instruction) -> Iterator[Refused]:
        """Yield what forbids a patch at an instruction."""
        address = instruction.address
        place = partial(self._image.symbolize, address)  # told of few sites
        section = self._image.section_at(address)
        hazards = self._hazards(function)

        def refused(rule: str, why: str) -> Refused:
            return Refused(rule, why, address)

        if self._runs_untranslated(function, address):
            way = " is reached from an exception vector and" if address in self._untranslated else ""
            yield refused("untranslated", f"{place()}{way} may run with address translation off")
        elif section is not None and section.name in self._off_limits.untranslated_sections:
            what = f"is in {section.name}: code of which some runs with address translation off"
            yield refused("exception code", f"{place()} {what}")
        yield from self.no_code(instruction)
        own = self._off_limits.rewritten.get(address)
        if own is None and self._image.read(address, 4) != instruction.word.to_bytes(4, "big"):
            own = Rewritten(CHANGED)
        if own is not None:
            yield refused("rewritten", f"{place()} is no place for a patch: {own.why}")
        text = partial(instruction.written_for, self._image.model)
        if instruction.foreign:
            yield refused("foreign", f"'{text()}' at {place()} is an instruction of other CPUs only")
        if address in hazards.window:
            what = "lies between lwarx and stwcx.: a patch would lose the reservation"
            yield refused("reservation", f"{place()} {what}")
        if address in hazards.turning:
            what = "turns address translation off: what follows it must lie where it lies physically"
            yield refused("translation switch", f"{place()} {what}")
        if address in self._off_limits.fault_sites:
            yield refused(
                "fault table", f"the kernel looks faults of '{text()}' at {place()} up by their address"
            )

    def no_code(self, instruction: Instruction) -> Iterator[Refused]:
        """Yield why a word is no instruction."""
        place = partial(self._image.symbolize, instruction.address)
        reach = self._index.reach(instruction.address)
        why = None if reach is None else _NO_CODE.get(reach)
        if not instruction.known:
            why = f"holds 0x{instruction.word:08x}, not an instruction"
        if why is not None:
            yield Refused("data", f"{place()} {why}", instruction.address)

    def nearby(self, address: int) -> Iterator[int]:
        """Yield the other addresses of the same function, nearest first."""
        function = self._image.function_at(address)
        if function is None:
            return
        here = address & ~3
        inside = [at for at in range(function.address, function.end, 4) if at != address]
        yield from sorted(inside, key=lambda at: (abs(at - here), at))
