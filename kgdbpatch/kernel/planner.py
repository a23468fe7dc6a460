"""From what a user asks for to plans: payloads, sites judged, places in the arena, sites that would do."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from typing import TYPE_CHECKING

from kgdbpatch.component.arena import Arena
from kgdbpatch.component.table import Record
from kgdbpatch.errors import Misuse, Refused
from kgdbpatch.image import Image
from kgdbpatch.interpreter import uncollected
from kgdbpatch.isa import encode
from kgdbpatch.kernel.patch_names import PatchNames
from kgdbpatch.kernel.payload_names import Meaning, PayloadNames
from kgdbpatch.kernel.signatures import compared
from kgdbpatch.patch.depth import LEAST_STACK
from kgdbpatch.patch.exits import caller_asked, for_exits
from kgdbpatch.patch.payload import Payload, call_payload, count_payload
from kgdbpatch.patch.plan import Place, Plan, Site, plan
from kgdbpatch.patch.reentry import DirectCalls, Reached
from kgdbpatch.patch.replace import as_entry
from kgdbpatch.patch.request import PatchRequest
from kgdbpatch.patch.site_checker import SiteChecker
from kgdbpatch.patch.trap import Hook
from kgdbpatch.patch.unwound import unwound
from kgdbpatch.patch.updated import data_plan
from kgdbpatch.results import PatchState

if TYPE_CHECKING:
    from kgdbpatch.image.kmods import Extension
    from kgdbpatch.personality import Personality
    from kgdbpatch.toolchain.compile import CObject
    from kgdbpatch.vm.qemu import Qemu

__all__ = ["MANY", "PROGRESS_INTERVAL", "Planned", "Planner", "payload_macros"]

PROGRESS_INTERVAL = 1.0  # seconds between two words of progress

_UNREACHED = ("springboard", "reach", "stack")  # rules by which a branch may be refused where a trap is not
_NOWHERE_ELSE = ("memory", "unfinished", "signature")  # rules that hold for any other site, too
MANY = 500  # sites for which it pays to look at the whole kernel first
_NEAR = 128  # sites looked at for one that would do

Planned = list[tuple[int, Plan]]  # table slot and plan


class Planner:
    """Make plans for one kernel; ``arena`` is read, nothing in the guest is changed.

    ``hook`` is where traps can be hooked, if anywhere, ``tails`` the free springboard slots in vector tails;
    ``stack`` the size of the kernel's stacks, bytes; ``target`` the CPU that C is compiled for,
    ``macros()`` its macros. ``extensions()`` are what a Darwin has loaded, ``held(module)`` is how a payload
    keeps a module or extension loaded. Within ``reading()`` the kernel's words are those of one moment.
    """

    def __init__(
        self,
        image: Image,
        site_checker: SiteChecker,
        arena: Arena,
        *,
        hook: Hook | None = None,
        via: str = "auto",
        force: bool = False,
        tails: Sequence[int] = (),
        stack: int = LEAST_STACK,
        reading: Callable[[], AbstractContextManager[None]] = nullcontext,
        target: str = "750",
        macros: Callable[[], Sequence[str]] = tuple,
        extensions: Callable[[], Sequence[Extension]] = tuple,
        held: Callable[[str], tuple[str, int]] | None = None,
    ) -> None:
        if via == "trap" and hook is None:
            raise Refused("trap", "the program exception of this kernel cannot be hooked")
        if via == "tails" and not tails:
            raise Refused("springboard", "there is no room left in this kernel's vector tails")
        self._image, self._site_checker, self._arena, self._force = image, site_checker, arena, force
        self._hook, self._via, self._stack, self._reading = hook, via, stack, reading
        self._uses = set[int]()  # the patches that the payload's names were found in
        self._holds = set[tuple[str, int]]()  # and the modules
        self._held = held
        self._compilation = (target, macros, stack, self._uses, self._holds)
        self._names = PayloadNames(PatchNames(arena), image, extensions)
        self.compiled: CObject | None = None  # what the last payload was linked from, of C
        self._known_reach: dict[frozenset[int], Reached] = {}
        self._patched: dict[int, Record] = {}
        for record in arena.records():
            if record.state not in (PatchState.RETIRED, PatchState.UNLOADED):
                self._patched[record.site] = record  # the newest one's, where there are several
        self._allocator = arena.allocator(tails if via == "tails" else None)

    def __repr__(self) -> str:
        return f"Planner({self._image!r}, via {self._via}, {len(self._patched)} sites patched)"

    # ---- payloads ------------------------------------------------------------------------

    def payload(self, request: PatchRequest) -> Payload:
        """Return the payload that a user asks for."""
        call, lookup = request.call, self._lookup
        self._uses.clear()
        self._holds.clear()
        if call is not None:
            target = self.lasting(call if isinstance(call, int) else self._image.resolve(call))
            self._site_checker.function(target)
            return call_payload(target, self._image.abi)
        if request.c is not None or request.override is not None:
            from kgdbpatch.kernel.compiled import Compilation, compiled, compiled_payload

            place, how = self._allocator.peek().body, Compilation(*self._compilation)
            self.compiled = compiled(request, self._image, how)
            return compiled_payload(request, self.compiled, self._image, lookup, place, how)
        if request.asm is None:
            return count_payload()._replace(exits=frozenset() if request.exit else None)
        from kgdbpatch.kernel.assembled import assembled_payload

        return assembled_payload(request, self._image, self._lasting, self._places(), self._stack, self._uses)

    def _lookup(self, name: str) -> int:
        """Return the address that a name has in a payload, which keeps the module loaded that it is of."""
        found = self._names.find(name)
        if found.module is not None and self._held is not None:
            self._holds.add(self._held(found.module))
            return found.address
        return self._lasting(name, found)

    def _lasting(self, name: str, found: Meaning | None = None) -> int:
        """As `_lookup`, for what cannot keep modules loaded."""
        found = found or self._names.find(name)
        if found.module is not None:
            told = f"the payload uses {name} of {found.module}: only payloads of C keep that loaded"
            raise Refused("module", told, found.address)
        if found.patch is not None:
            self._uses.add(found.patch)
        return found.address

    def lasting(self, address: int) -> int:
        """Return an address of the kernel's; raise `Refused` (rule ``module``) for what may be unloaded."""
        module = self._image.module_at(address)
        if module is None:
            return address
        what = self._image.symbolize(address)
        raise Refused("module", f"the payload uses {what}: it stays when that module is unloaded", address)

    def _places(self) -> list[int]:
        """Return where a payload can stand: in the arena, else near."""
        place = self._allocator.peek()
        near = self._allocator.near(place)
        return [place.body, *([] if near is None else [near.body])]

    def any_call(self) -> Payload:
        """Return the payload that `check` speaks of: a call of some kernel function that calls no others."""
        call = call_payload(self._image.code_sections()[0].address, self._image.abi)
        return call._replace(called=frozenset())

    # ---- sites -----------------------------------------------------------------------------

    def _entry(self, address: int) -> int:
        """Return where a patch for a function's first instruction stands; with ``force`` nowhere else."""
        return address if self._force else self._site_checker.entry(address)

    def _site(self, address: int) -> Site:
        below = self._patched.get(address)
        if below is not None and below.state is not PatchState.ACTIVE:
            what = f"0x{address:08x} ({self._image.symbolize(address)})"
            cut = "whose apply was cut off" if below.state is PatchState.UNFINISHED else "which is damaged"
            raise Refused(
                "unfinished", f"{what} belongs to patch {below.id}, {cut}; remove {below.id} first", address
            )
        site = self._site_checker.site(address, force=self._force)
        if below is None:
            return site
        leads = encode.branch_target(address, below.splice)
        return site._replace(
            under=below.splice,
            under_at=below.body if leads is None else leads,
            under_moved=below.body + 4 * below.tail,
        )

    def _once(self, site: Site, payload: Payload) -> tuple[Site, tuple[str, ...]]:
        """Return a site as ``payload`` is to be planned at it, and a warning where that comes back to it.

        It is guarded unless the kernel's direct calls prove that it cannot come back.
        """
        warnings: tuple[str, ...] = ()
        if payload.replaces is not None or payload.exits is not None:
            around = self._site_checker.function(site.address)
            site = as_entry(site, around, self._image.model, self._words)
        if payload.registers is not None:
            site = unwound(site, self._site_checker)
        if payload.replaces is not None:
            return compared(self._image, site, around, payload.replaces, force=self._force)
        if payload.exits is not None:
            frame, name = self._site_checker.caller_frame(around), self._image.symbolize
            site, warnings = for_exits(site, frame, name), caller_asked(frame, name)
        if not payload.calls or not (payload.called or payload.strays):
            return site, warnings
        if not payload.called:
            return site._replace(once=self._stack), warnings
        reached = self._reached(payload.called)
        function = self._direct_calls.function(site.address)
        if function in reached.came_from:
            chain = " ─► ".join(self._image.symbolize(at) for at in reached.chain(function))
            told = (
                f"the payload comes back to its own site ({chain}): a thread inside it passes the site "
                "without it, and is counted as skipped"
            )
            return site._replace(once=self._stack), (*warnings, told)
        patched = {self._direct_calls.function(at) for at, record in self._patched.items() if record.calls}
        unknown = function is None or payload.strays or reached.unknown
        if unknown or not patched.isdisjoint(reached.came_from):
            return site._replace(once=self._stack), warnings
        return site, warnings

    @cached_property
    def _direct_calls(self) -> DirectCalls:
        return self._site_checker.direct_calls()

    def _reached(self, called: frozenset[int]) -> Reached:
        if called not in self._known_reach:
            self._known_reach[called] = self._direct_calls.reached(called)
        return self._known_reach[called]

    def _words(self, address: int, count: int) -> list[int]:
        return [self._site_checker.instruction(address + 4 * index).word for index in range(count)]

    def nearest(self, address: int, refused: Refused) -> int | None:
        """Return the nearest site of the same function that could carry a call."""
        payload, place = self.any_call(), self._allocator.peek()
        for other in itertools.islice(self._site_checker.nearby(address), _NEAR):
            if other in self._patched:
                continue
            try:
                self._plan_at(self._site_checker.site(other), payload, place)
            except Refused:
                continue
            return other
        return refused.nearest

    # ---- plans -----------------------------------------------------------------------------

    def _plan_at(self, site: Site, payload: Payload, place: Place) -> Plan:
        """Plan by a branch, or by a trap where none will do."""
        if self._via == "trap":
            return plan(site, payload, self._allocator.trapped(place))
        if self._via == "tails":
            return plan(site, payload, self._real(place))
        try:
            return self._branching(site, payload, place)
        except Refused as refused:
            if self._hook is None or refused.rule not in _UNREACHED:
                raise
            try:
                return plan(site, payload, self._allocator.trapped(place))
            except Refused:
                raise refused from None

    def _real(self, place: Place) -> Place:
        """Return a place in the vectors' tails with where it is for code that runs untranslated."""
        where = self._arena.plan
        if place.springboard is None or where.virtual != where.physical:
            return place
        return place._replace(real=self._arena.springboard(place.springboard))

    def _branching(self, site: Site, payload: Payload, place: Place) -> Plan:
        """Plan within reach where the guest has a window for that, or through a springboard.

        That costs a hit four instructions: little for a payload that calls, which leaves the window to
        others.
        """
        near = self._allocator.near(place)
        if near is None:
            return plan(site, payload, place)
        if place.springboard is None:
            return plan(site, payload, near)
        spares = payload.calls and payload.replaces is None  # what is replaced is to cost one branch
        first, second = (place, near) if spares else (near, place)
        try:
            return plan(site, payload, first)
        except Refused:
            return plan(site, payload, second)

    def plan_site(self, address: int, payload: Payload) -> tuple[int, Plan]:
        """Return a table slot and the plan of ``payload`` at ``address``, or behind its tracing.

        Raises `Refused` naming the nearest site that would do.
        """
        with self._reading():
            address = self._entry(address)
            try:
                return self._placed(address, payload, quick=payload.counted)
            except Refused as refused:
                if refused.nearest is not None or refused.rule in _NOWHERE_ELSE:
                    raise
                nearest = self.nearest(address, refused)
                if nearest is None:
                    raise
                told = f"{refused}; nearest site that would do: {self._image.symbolize(nearest)}"
                raise Refused(refused.rule, told, refused.address, nearest) from refused

    @contextmanager
    def _together(self, count: int) -> Iterator[None]:
        """Judge so many sites meanwhile, of one moment's words."""
        with self._reading(), self._site_checker.in_bulk() if count > MANY else nullcontext():
            yield

    def plan_function(self, address: int, payload: Payload) -> tuple[int, Plan]:
        """As `plan_site`, of a function that is replaced: no other site would do."""
        with self._reading():
            return self._placed(self._entry(address), payload)

    def plan_data(
        self, site: int, before: int, after: int, blob: Callable[[int], tuple[bytes, int]] | None = None
    ) -> tuple[int, Plan]:
        """Return a table slot and the plan that a word of data is written over.

        ``blob(body)`` returns what the patch brings along besides, and the size of its constant part.
        """
        place = self._allocator.peek()
        code, constant = blob(place.body) if blob is not None else (b"", 0)
        place = self._allocator.peek(len(code))
        if blob is not None:
            code, constant = blob(place.body)
        planned = data_plan(site, before, after, place, code, constant)
        return self._allocator.claim(planned), planned

    def place(self, size: int) -> int:
        """Return where the next body of so many bytes would be."""
        return self._allocator.peek(size).body

    def active_at(self, address: int) -> Record | None:
        """Return the newest patch of a function's entry, or of a word."""
        return self._patched.get(address) or self._patched.get(self._entry(address))

    def refusals(self, addresses: Iterable[int], payload: Payload) -> list[Refused]:
        """Return why ``payload`` cannot be put at those of ``addresses`` where it cannot."""
        place, found, chosen = self._allocator.peek(), [], list(addresses)
        with self._together(len(chosen)):
            for address in chosen:
                try:
                    self._plan_at(self._site(address), payload, place)
                except Refused as refused:
                    found.append(refused)
        return found

    def plan_sites(
        self, wanted: Iterable[tuple[int, Payload]], progress: Callable[[str], None] = lambda _: None
    ) -> tuple[Planned, list[Refused]]:
        """Plan each (address, payload), as `plan_site`; return plans, and the others' refusals.

        Raises `Refused` (rule ``memory``) when not all have room, `Misuse` when an address is given twice.
        """
        chosen, said = list(wanted), time.monotonic()
        planned, refusals, seen, given = [], [], set[int](), {address for address, _ in chosen}
        with self._together(len(chosen)), uncollected():
            for address, payload in chosen:
                behind = self._entry(address)
                address = address if behind in given else behind  # the site, from here on
                if address in seen:
                    where = self._image.symbolize(address)
                    raise Misuse(
                        f"{where} is given twice; patches of one site are put in one after the other"
                    )
                seen.add(address)
                if time.monotonic() > said + PROGRESS_INTERVAL:
                    said = time.monotonic()
                    progress(f"planned {len(seen):,} of {len(chosen):,} sites")
                try:
                    planned.append(self._placed(address, payload))
                except Refused as refused:
                    if refused.rule == "memory":
                        raise
                    refusals.append(refused)
        return planned, refusals

    def _placed(self, address: int, payload: Payload, *, quick: bool = False) -> tuple[int, Plan]:
        """Plan and take a place; ``quick`` is not for many: each is a run of the table by itself."""
        site, warnings = self._once(self._site(address), payload)
        module = self._image.module_at(address)
        if module is not None:
            warnings += (f"when the module '{module}' is unloaded, this patch goes with it",)
        first = self._allocator.peek(quick=quick)
        trial = self._plan_at(site, payload, first)  # to learn its size
        place = self._allocator.peek(len(trial.code), len(trial.springboard_code), quick=quick)
        plan = trial if place == first else self._plan_at(site, payload, place)
        sizes = [(len(one.code), len(one.springboard_code)) for one in (plan, trial)]
        assert plan.springboard is None or sizes[0] <= sizes[1], "a patch grew when it was moved"
        plan = plan._replace(warnings=plan.warnings + warnings)
        return self._allocator.claim(plan, quick=quick), plan


def payload_macros(personality: Personality, image: Image, qemu: Qemu) -> list[str]:
    """Return the macros that toolchain/include/kgdbpatch.h asks for."""
    name = personality.log_function(image)
    printing = [] if name is None else [f"KGP_PRINTF={name}"]
    return printing if qemu.cpus() > 1 else [*printing, "KGP_ONE_CPU"]
