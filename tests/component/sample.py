"""A row of equal instructions as a kernel's text, and counting patches planned at them."""

from __future__ import annotations

from collections.abc import Iterable

from kgdbpatch.component import ComponentClient, Header
from kgdbpatch.component.arena import Arena
from kgdbpatch.cpu.ppc6xx import Ppc6xx
from kgdbpatch.isa import encode
from kgdbpatch.isa.abi import SYSV
from kgdbpatch.isa.decode import decode
from kgdbpatch.patch.payload import Payload, call_payload, count_payload
from kgdbpatch.patch.plan import Plan, plan
from kgdbpatch.patch.site import Site
from kgdbpatch.personality.base import ArenaPlan, Window

from .fake import FakeMachine, Flat

__all__ = ["FAR", "NEAR", "SITES", "STACK", "TEXT", "Sample"]

MIB = 1 << 20
ADD = encode.addi(3, 3, 1)
TEXT = range(0x2000, 0x3000)
SITES = list(range(TEXT.start, TEXT.stop, 0x40))
STACK = 0x8000
NEAR = ArenaPlan(32 * MIB, 32 * MIB, 0x4000_0000, None, Window(16 * MIB, 32 * MIB))
FAR = ArenaPlan(32 * MIB, 32 * MIB, 0x4000_0000, Window(0x1000, 0x2000))
_FREE = frozenset({"r11", "r12", "ctr", "cr0", "lr"})


class Sample:
    """A machine with a text, the component installed in it, and a client."""

    def __init__(self, plan: ArenaPlan = NEAR) -> None:
        self.machine = FakeMachine(64 * MIB)
        self.ram = self.machine.ram
        self.ram.put(TEXT.start, *[ADD] * (len(TEXT) // 4))
        self.ram.write(STACK, bytes(0x2000))
        self.ram.put(STACK, 1)
        self.system = Flat(plan.physical)
        self.plan = plan
        self.client = self.another()
        self.client.install(plan, "00" * 32, {})

    def another(self) -> ComponentClient:
        """Return another client of the same guest."""
        return ComponentClient(self.machine, lambda: self.machine, Ppc6xx(), self.system)

    @property
    def header(self) -> Header:
        header = self.client.header(self.plan.physical)
        assert header is not None
        return header

    @property
    def arena(self) -> Arena:
        return self.client.arena(self.plan)

    def text(self) -> bytes:
        return self.ram.read(TEXT.start, len(TEXT))

    def planned(self, sites: Iterable[int], payload: Payload | None = None) -> list[tuple[int, Plan]]:
        """Return table slots and plans that count at ``sites``, or do what is given."""
        allocator, found = self.arena.allocator(), []
        for at in sites:
            site = Site(decode(self.ram.word(at), at), _FREE, _FREE, SYSV)
            place = allocator.peek()
            made = plan(site, payload or count_payload(), allocator.near(place) or place)
            found.append((allocator.claim(made), made))
        return found

    def calling(self, site: int) -> list[tuple[int, Plan]]:
        """Return a plan that calls a kernel function, so that threads may sleep in it."""
        return self.planned([site], call_payload(TEXT.start, SYSV))

    def apply(self, *sites: int) -> list[int]:
        """Count at ``sites``; return the patches' ids."""
        return self.client.apply(self.header, self.planned(sites))

    def remove(self, *ids: int) -> list[int]:
        """Take patches out; return those whose memory is still referenced."""
        return self.client.remove(self.header, self.arena.table(), set(ids))

    def interrupt_in(self, pc: int, *, at: int = STACK + 0x100) -> None:
        """Leave an interrupted context with that pc on a kernel stack."""
        self.ram.put(at, pc, 0x9032)
