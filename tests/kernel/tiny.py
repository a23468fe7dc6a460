"""A tiny kernel's image in fake RAM, with all of us that is between a user's wish and the guest's words."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from analysis.code import link
from component.fake import FakeMachine, Flat

from kgdbpatch.component import ComponentClient, Header, layout
from kgdbpatch.component.arena import Arena
from kgdbpatch.component.table import Record
from kgdbpatch.cpu.ppc6xx import Ppc6xx
from kgdbpatch.errors import Refused
from kgdbpatch.image import Image
from kgdbpatch.isa.decode import Kind, decode
from kgdbpatch.kernel import remembered
from kgdbpatch.kernel.planner import Planned, Planner
from kgdbpatch.kernel.remembered import off_limits
from kgdbpatch.kernel.removal import Removal, take_out
from kgdbpatch.kernel.running import RunningText
from kgdbpatch.patch.plan import Plan
from kgdbpatch.patch.request import PatchRequest
from kgdbpatch.patch.site_checker import SiteChecker
from kgdbpatch.patch.trap import is_trap
from kgdbpatch.personality.bare import Bare
from kgdbpatch.personality.base import MemoryPlan, Window
from kgdbpatch.results import Verification

__all__ = ["COUNT", "Far", "Near", "Tiny", "build"]

STACK = 0x8000
COUNT = PatchRequest(count=True)

# Vectors with their tails empty; functions from which a patch may be led, or not.
_SOURCE = """
        .section .vectors,"ax"
        .space  0x100
        .rept   22
        mtspr   272,3
        b       common
        .space  0xf8
        .endr
common: mfspr   3,272
        rfi
        .space  0x6f8
        .text
        .macro  function name
        .globl  \\name
        .type   \\name,@function
\\name:
        .endm
        function work
        stwu    1,-32(1)
        mflr    0
        stw     0,36(1)
        addi    3,3,1
        bl      deeper
        addi    4,3,2
        lwz     0,36(1)
        mtlr    0
        addi    1,1,32
        blr
        .size   work,.-work
        function deeper
        addi    3,3,3
        addi    5,3,4
        blr
        .size   deeper,.-deeper
        function lock
1:      lwarx   4,0,3
        addi    4,4,1
        stwcx.  4,0,3
        bne     1b
        blr
        .size   lock,.-lock
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
        function leaf\\n
        addi    3,3,\\n
        addi    4,3,\\n
        blr
        .size   leaf\\n,.-leaf\\n
        .endr
        .data
        .globl  table
table:  .long   1, 2, 3, 4
"""


def build(place: Path) -> Image:
    """Assemble and link the kernel in the folder ``place``."""
    script = place / "script"
    script.write_text("SECTIONS { . = 0; .vectors : { *(.vectors) } . = 0x2000; .text : { *(.text) } }")
    return link(_SOURCE, place, "-T", script)


class Near(Bare):
    """A system that lets the end of the arena be seen near the text."""

    def __init__(self) -> None:
        super().__init__(MemoryPlan(64, 32))


class Far(Near):
    """One that leaves two windows low and high, as Darwin does: for springboards and for vectors' tails."""

    def near_window(self, image: Image) -> None:  # type: ignore[override]
        return None

    def springboard_window(self, image: Image) -> Window:
        return Window(0x1000, 0x2000)

    def tail_window(self, image: Image) -> Window:
        return Window(0xFE00_0000, 0xFE00_2000)


class Tiny:
    """The kernel as it runs, the component installed."""

    def __init__(self, image: Image, system: Bare) -> None:
        self.image, self.system = image, system
        self.machine = FakeMachine(system.memory.memory << 20)
        self.ram = self.machine.ram
        for section in image.sections:
            if section.address:
                self.ram.write(section.address, section.data)
        for section in image.code_sections():
            self.ram.write(section.address, section.data)
        self.ram.write(STACK, bytes(0x1000))
        self.text = RunningText(self.machine, system, image)
        self.threads = Flat(system.memory.announced << 20)
        self.client = ComponentClient(self.machine, lambda: self.machine, Ppc6xx(), self.threads)
        self.client.install(self.text.arena, image.sha256, self.text.differences())

    @property
    def header(self) -> Header:
        header = self.text.header()
        assert header is not None
        return header

    @property
    def arena(self) -> Arena:
        return self.client.arena(self.header.arena)

    @property
    def records(self) -> list[Record]:
        return self.arena.records()

    @property
    def states(self) -> dict[int, str]:
        return {record.id: str(record.state) for record in self.records}

    @cached_property
    def site_checker(self) -> SiteChecker:
        limits = off_limits(self.system, self.image, self.header.baseline)
        return SiteChecker(self.image, limits, self.text.words, remembered.liveness_index)

    def planner(self, *, via: str = "auto", force: bool = False) -> Planner:
        return Planner(
            self.image,
            self.site_checker,
            self.arena,
            hook=self.text.hook,
            via=via,
            force=force,
            tails=self.text.free_tails() if via == "tails" else (),
        )

    def planned(
        self, sites: Iterable[str], request: PatchRequest = COUNT, *, via: str = "auto"
    ) -> tuple[Planned, list[Refused]]:
        planner = self.planner(via=via)
        payload = planner.payload(request)
        return planner.plan_sites((self.image.resolve(site), payload) for site in sites)

    def plan(
        self, site: str, request: PatchRequest = COUNT, *, via: str = "auto", force: bool = False
    ) -> Plan:
        planner = self.planner(via=via, force=force)
        return planner.plan_site(self.image.resolve(site), planner.payload(request))[1]

    def apply(self, *sites: str, request: PatchRequest = COUNT, via: str = "auto") -> list[int]:
        """Patch ``sites``, all of which will do; return the ids."""
        planned, refused = self.planned(sites, request, via=via)
        assert refused == []
        return self.client.apply(self.header, planned, self.text.hook)

    def remove(self, *ids: int, force: bool = False) -> Removal:
        """Take patches out, all without ids."""
        return take_out(self.client, self.header, self.arena.basis(), ids or None, force=force)

    def verify(self) -> Verification:
        found = self.text.verify()
        assert found is not None
        return found

    def memory(self) -> bytes:
        """Return the kernel's own memory, its stacks and the page table left out."""
        return self.ram.read(0, STACK)

    def word(self, site: str) -> int:
        return self.ram.word(self.image.resolve(site))

    def passes(self, site: str) -> list[int]:
        """Return the patches that whoever comes to ``site`` passes, in order, by the words on the way.

        The instruction of the site itself must be come by once, and the way must lead behind it.
        """
        start = at = self.image.resolve(site)
        own = int(self.text.words(start, 1)[0])
        bodies = {record.body: record.id for record in self.records}
        found: list[int] = []
        held: dict[int, int] = {}  # what springboards make of registers
        own_seen = ctr = lr = 0
        for _ in range(1000):
            if at == start + 4:
                assert own_seen == 1
                return found
            if at in bodies:
                found.append(bodies[at])
            word = self._fetch(at)
            made = decode(word, at)
            if is_trap(word):
                at = self._traps()[at]
                continue
            own_seen += word == own
            register = word >> 16 & 31
            if made.mnemonic == "addis" and not register:
                held[word >> 21 & 31] = word << 16 & 0xFFFF_FFFF
            elif made.mnemonic == "ori":
                held[register] = held.get(word >> 21 & 31, 0) | word & 0xFFFF
            elif made.mnemonic == "mtctr":
                ctr = held.get(word >> 21 & 31, 0)
            ours = made.target is not None and made.target not in range(0x2000, STACK)
            if made.kind is Kind.CALL and ours:  # where LR is dead it serves for the way back
                lr = at + 4
            if made.target is not None and (made.kind is Kind.JUMP or (made.kind is Kind.CALL and ours)):
                at = made.target
            else:  # stwcx. does what it should, and beqlr goes back
                at = {Kind.INDIRECT: ctr, Kind.RETURN: lr}.get(made.kind, at + 4)
        raise AssertionError(f"no way back from {site}")

    def _fetch(self, at: int) -> int:
        arena = self.arena
        tails, springboards, near = arena.plan.tails, arena.plan.springboards, arena.plan.near
        if any(window and window.start <= at < window.end for window in (tails, springboards)):
            return self.ram.word(arena.springboard(at))
        inside = arena.plan.virtual <= at < arena.plan.virtual + arena.plan.size
        return self.ram.word(arena.inside(at) if inside or (near and near.start <= at < near.end) else at)

    def _traps(self) -> dict[int, int]:
        table = self.ram.array(self.arena.plan.physical + layout.TRAPS_OFFSET, layout.TRAP_ENTRIES * 8)
        used = table.view(layout.TRAP)[table.view(layout.TRAP)["site"] > 1]
        return dict(zip(used["site"].tolist(), used["body"].tolist(), strict=True))
