"""Have the kernel keep the arena's addresses for us, where it might map something else there later.

Its own page tables map the arena there, where it leaves the CPU's own entries (BATs) to nobody else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kgdbpatch.component.kernel_calls import kept
from kgdbpatch.errors import Refused
from kgdbpatch.personality.base import ArenaPlan, Pager, Window

if TYPE_CHECKING:
    from kgdbpatch.component import ComponentClient
    from kgdbpatch.image import Image
    from kgdbpatch.kernel.calls import Calls
    from kgdbpatch.kernel.running import RunningText
    from kgdbpatch.personality import Personality
    from kgdbpatch.vm.qemu import Qemu

__all__ = ["Reservation"]

_ARENA, _NEAR, _PAGE = 1, 2, 3  # the numbers under which the component notes what is kept


_PAGE_SIZE = 4096

Pages = list[tuple[int, bytes]]


class Reservation:
    """The ranges of addresses that one running kernel keeps for its arena."""

    def __init__(
        self, qemu: Qemu, personality: Personality, image: Image, calls: Calls, text: RunningText
    ) -> None:
        self._qemu, self._personality, self._image = qemu, personality, image
        self._text = text
        self._calls = calls
        self._physical = personality.memory.arena_at

    def pager(self) -> Pager | None:
        """Return what fills the kernel's page tables, or None."""
        return self._personality.pager(self._image, self._qemu.ram.read)

    def kept(self) -> dict[Window, int]:
        """Return the ranges that the kernel keeps, with the numbers under which they are noted."""
        return {one.window: one.number for one in kept(self._qemu.ram, self._physical)}

    def choose(self) -> ArenaPlan:
        """Return an arena whose addresses the kernel does not use, and will not: it keeps them from now on.

        What dead clients had it keep is given back, as far as it is no part of this. Raises `Refused` (rule
        ``mapping``) where there is none, and as `Calls`.
        """
        reason = None
        self._calls.settle()
        for plan in self._personality.arenas(self._image):
            conflict = self._text.conflict(plan) or self._keep(plan)
            if conflict is None:
                return plan
            reason = reason or f"the arena cannot be mapped at 0x{plan.virtual:08x}: {conflict}"
        self.give_back()
        raise Refused("mapping", reason or "the kernel leaves no addresses for the arena")

    def page_entries(self, component: ComponentClient, arena: ArenaPlan) -> Pages:
        """Return what to write into the kernel's page tables (physical address, bytes) for an arena.

        That is nothing where the CPU's entries map all of it. The kernel allocates the tables that it lacks,
        which it keeps. Raises `Refused` (rule ``mapping``) where neither will do, and as `Calls`.
        """
        pager, windows = self.pager(), [Window(arena.virtual, arena.virtual + arena.size), arena.near]
        ours = [one for one in windows[arena.linear :] if one is not None]
        if pager is None or not all(one in self.kept() for one in ours):
            return []  # nothing has been called: no stub is there yet that could be asked
        pairs = component.free_entries(arena, paged=True)
        blocks = [one for one, pair in zip(windows, pairs, strict=False) if one in ours and pair.data is None]
        if not blocks:
            return []
        for window in blocks:
            for call in pager.tables(window):
                self._calls(call.function, *call.arguments)
        sample = pager.sample()
        page = self._calls(sample.function, *sample.arguments, keeps=(_PAGE, Window(0, _PAGE_SIZE)))
        last = arena.physical + arena.size
        executed = all(pair.instruction is None for pair in pairs)
        found = [pager.entries(one, last - (one.end - one.start), page, executed=executed) for one in blocks]
        free = pager.free(page)
        self._calls(free.function, *free.arguments, keeps=(_PAGE, None))
        if not all(found):
            raise Refused(
                "mapping", "no BAT is left for the arena, and the kernel's page tables are not understood"
            )
        return [piece for pieces in found for piece in pieces]

    def _keep(self, plan: ArenaPlan) -> str | None:
        """Have the kernel keep an arena's addresses; return why it does not, or None."""
        if not self._callable():
            if self._personality.must_keep(self._image, plan):
                return "the kernel may map something there, and cannot be asked to keep it for us"
            return None
        windows = {} if plan.linear else {_ARENA: Window(plan.virtual, plan.virtual + plan.size)}
        if plan.near is not None:
            windows[_NEAR] = plan.near
        for window, number in self.kept().items():
            if windows.get(number) != window:
                self._give_back(number)
        for number, window in windows.items():
            if window in self.kept():
                continue
            call = self._personality.keep(self._image, window)
            assert call is not None  # as is known by `_callable`
            if not self._calls(call.function, *call.arguments, keeps=(number, window)):
                return f"the kernel has given 0x{window.start:08x} to 0x{window.end:08x} to others"
        return None

    def _callable(self) -> bool:
        """Tell whether the kernel is to be asked, and can be."""
        window = Window(0, 1 << 20)
        if not self._personality.maps_later(self._image):
            return False
        known = self._personality.keep(self._image, window) is not None
        return known and self._calls.possible()

    def _give_back(self, number: int) -> None:
        handle = next(one.handle for one in kept(self._qemu.ram, self._physical) if one.number == number)
        pager = self.pager() if number == _PAGE else None
        call = pager.free(handle) if pager else self._personality.give_back(self._image, handle)
        if call is not None:
            self._calls(call.function, *call.arguments, keeps=(number, None))

    def give_back(self) -> None:
        """Have the kernel use the addresses as it likes again; nothing may be mapped there by then."""
        self._calls.settle()  # what a dead client gave back is not given back again
        for number in self.kept().values():
            self._give_back(number)
