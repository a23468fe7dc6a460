"""The facade: one `Kernel` object that everything hangs on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from kgdbpatch.component import Header
from kgdbpatch.component.layout import SPRINGBOARD_SIZE
from kgdbpatch.errors import Misuse, Refused, TargetBusy
from kgdbpatch.image import Image
from kgdbpatch.kernel.calling import CallableGuest
from kgdbpatch.kernel.held_modules import extensions_of, gone, handle_of
from kgdbpatch.kernel.inside import rows_with_calls
from kgdbpatch.kernel.lifetime import end as end_of
from kgdbpatch.kernel.lifetime import put_in
from kgdbpatch.kernel.listing import listed
from kgdbpatch.kernel.looping import cpus_inside
from kgdbpatch.kernel.patch import Batch, Patch
from kgdbpatch.kernel.removal import Removal, take_out
from kgdbpatch.kernel.transfer import keep
from kgdbpatch.patch.request import Asked, PatchRequest
from kgdbpatch.results import Check, Holder, LiveRegisters, PatchRow, PatchState, Verification

if TYPE_CHECKING:  # on use: what a command does not need takes time to import
    from kgdbpatch.image.kmods import Extension
    from kgdbpatch.kernel.checks import Checker
    from kgdbpatch.kernel.coverage import Coverage
    from kgdbpatch.kernel.planner import Planner
    from kgdbpatch.kernel.updates import Updates
    from kgdbpatch.patch.plan import Payload, Plan
    from kgdbpatch.patch.site_checker import SiteChecker
    from kgdbpatch.personality.base import Module

__all__ = ["Kernel"]

Ids = list[int]
Patches = list[Patch]
Rows = list[PatchRow]
Extensions = list["Extension"]
LoadedModules = list["Module"]
Code = list[tuple[int, int, str]]


class Kernel(CallableGuest):
    """A PowerPC kernel running in QEMU.

    As a context manager one that was booted is shut down at the end, one that was attached to goes on.

    >>> with Kernel.boot("darwin") as k:
    ...     with k.patch("run_netisr", c=Path("examples/packet_counter.c")):
    ...         print(k.log.wait("packet_counter").message)
    """

    # ---- analysis ------------------------------------------------------------------------

    @property
    def site_checker(self) -> SiteChecker:
        """What answers for the sites of this kernel, and of the modules that are loaded now."""
        return self._text.images.site_checker(self._own_checker)

    @cached_property
    def _own_checker(self) -> SiteChecker:
        from kgdbpatch.kernel import remembered
        from kgdbpatch.kernel.remembered import off_limits
        from kgdbpatch.patch.site_checker import SiteChecker

        image = self._text.images.kernel
        limits = off_limits(self._personality, image, self.header.baseline, self._cpu)
        return SiteChecker(image, limits, self.words, remembered.liveness_index)

    def live(self, site: str | int) -> LiveRegisters:
        """Return which registers are live and which are free at a site."""
        return self.site_checker.live(self.resolve(site))

    def why(self, site: str | int) -> dict[str, int | None]:
        """Return for each live register the nearest instruction that may read it, None for reserved ones."""
        return self.site_checker.why(self.resolve(site))

    def check(self, site: str | int, *, count: bool = False) -> Check:
        """Say whether, at what cost, or where else a function could be called; with ``count`` a counter."""
        return self.checker(count=count).check(self.resolve(site))

    def checker(self, *, count: bool = False) -> Checker:
        """Return what judges sites of this kernel, many at a time; as `check`."""
        from kgdbpatch.kernel.checks import Checker

        return Checker(self.image, self._planner(self.header), count=count)

    # ---- patches ---------------------------------------------------------------------------

    def _planner(self, header: Header, request: PatchRequest | None = None) -> Planner:
        from kgdbpatch.kernel.planner import Planner, payload_macros

        via = request.via if request else "auto"
        self._text.check_arena(header.arena)  # modules may have been loaded since
        arena = self._component.arena(header.arena)
        tails = self._text.free_tails() if via == "tails" else []
        return Planner(
            self.image,
            self.site_checker,
            arena,
            hook=self._text.hook,
            via=via,
            force=request is not None and request.force,
            tails=tails,
            stack=self._personality.stack_size(self._image),
            reading=self._text.at_once,
            target=self._cpu.target,
            macros=partial(payload_macros, self._personality, self._image, self._qemu),
            extensions=partial(extensions_of, self),
            held=partial(handle_of, self),
        )

    def plan(self, site: str | int, request: PatchRequest | None = None, **asked: Unpack[Asked]) -> Plan:
        """Plan a patch without touching the guest; arguments as for `patch`."""
        request = request or PatchRequest(**asked)
        planner = self._planner(self.header, request)
        return planner.plan_site(self.resolve(site), planner.payload(request))[1]

    def patch(self, site: str | int, request: PatchRequest | None = None, **asked: Unpack[Asked]) -> Patch:
        """Put code at a site of the running kernel: one stop, one splice word.

        What is asked for is a `PatchRequest`, or its fields by name. A function of ``c`` is called with
        r3..r10 as they are at the site. ``count`` makes an assembler payload count its hits (calls always
        do); alone, it only counts. ``via="trap"`` costs more than a branch; ``via="tails"`` takes
        springboards in the unused tails of the exception vectors. Raises `Refused` by rule, `BadPatch`,
        `Misuse`, `TargetBusy`.

        >>> with kernel.patch("udp_sendmsg", count=True) as patch:
        ...     print(patch.hits)
        """
        request = request or PatchRequest(**asked)

        def change(header: Header, basis: bytes) -> Patch:
            planner = self._planner(header, request)
            payload, address = planner.payload(request), self.resolve(site)
            planned = planner.plan_site(address, payload)
            (patch_id,) = put_in(self, header, [planned], self._text.hook, basis)
            keep(self, request, planner.compiled, [(patch_id, address, planned[1])])
            return Patch.planned(self, patch_id, planned[1], self._component.pause)

        return self._change(change)

    def patch_all(
        self,
        sites: Iterable[str | int],
        request: PatchRequest | None = None,
        *,
        progress: Callable[[str], None] = lambda _: None,
        **asked: Unpack[Asked],
    ) -> Batch:
        """Put the same code at many sites, in one stop; arguments as for `patch`.

        Sites that a rule forbids are told as ``refused``. Raises `Misuse` when a site is given twice.
        """
        chosen, request = [*sites], request or PatchRequest(**asked)

        def change(header: Header, basis: bytes) -> Batch:
            planner = self._planner(header, request)
            payload = planner.payload(request)
            resolve = self.image.resolve
            wanted = [(site if isinstance(site, int) else resolve(site), payload) for site in chosen]
            batch = self._put_in(header, basis, planner, wanted, progress)
            entries = [
                (patch.id, patch.site, patch.plan) for patch in batch.patches if patch.plan is not None
            ]
            keep(self, request, planner.compiled, entries)
            return batch

        return self._change(change)

    def patch_each(self, payloads: Mapping[int, Payload]) -> Batch:
        """Put at every site its own payload (kgdbpatch.patch.payload), in one stop; as `patch_all`."""
        return self._change(
            lambda header, basis: self._put_in(header, basis, self._planner(header), payloads.items())
        )

    def _put_in(
        self,
        header: Header,
        basis: bytes,
        planner: Planner,
        wanted: Iterable[tuple[int, Payload]],
        progress: Callable[[str], None] = lambda _: None,
    ) -> Batch:
        planned, refused = planner.plan_sites(wanted, progress)
        ids = put_in(self, header, planned, self._text.hook, basis)
        pause = self._component.pause
        patches = tuple(
            Patch.planned(self, patch_id, plan, pause)
            for patch_id, (_, plan) in zip(ids, planned, strict=True)
        )
        return Batch(patches, tuple(refused), round(pause * 1e6))

    def modules(self) -> LoadedModules:
        """Return the modules that a Linux kernel has loaded; the guest is not stopped."""
        return [*self._text.modules.all()]

    def extensions(self) -> Extensions:
        """Return the extensions that a Darwin kernel has loaded; the guest is stopped meanwhile."""
        from kgdbpatch.image.kmods import loaded_extensions

        with self._exclusive(), self._component.view(self.header) as read:
            return loaded_extensions(self._image, read)

    def with_extensions(self) -> Image:
        """Return the kernel's image with the code of its loaded extensions."""
        from kgdbpatch.image.kmods import with_extensions

        return with_extensions(self._image, self.extensions())

    # ---- the patch table ---------------------------------------------------------------------

    @property
    def patches(self) -> Patches:
        """The patch table as it is now; the guest is not stopped. Raises `DeadKernel`."""
        return [Patch.listed(self, row) for row in self.patch_table()] if self.header else []

    def find_patch(self, patch_id: int) -> Patch:
        """Return a patch by its id, as it stands in the table now; raise `Misuse` when there is none."""
        for row in self.patch_table():
            if row.id == patch_id:
                return Patch.listed(self, row)
        raise Misuse(f"the guest has no patch {patch_id}")

    def patch_table(self, *, calls: bool = False) -> Rows:
        """Return the entries of the patch table, of a dead kernel too; the guest is not stopped.

        With ``calls`` it is for a moment, where patches at exits have seen calls that did not return yet: to
        count those that are under way.
        """
        if calls:
            return rows_with_calls(self)
        header = self._header()
        arena = self._component.arena(header.arena)
        records = arena.records()
        any_retired = any(record.state is PatchState.RETIRED for record in records)
        held = self._threads.holders(self._component, header, records) if any_retired else {}
        return listed(arena, records, held, self.updates, partial(gone, self))

    def cpus_inside(self) -> dict[int, tuple[Holder, ...]]:
        """Return, by id, who does not leave a patch; a stop is needed where that does not count."""
        header = self._header()
        return cpus_inside(
            self._qemu,
            self._component.arena(header.arena),
            self._threads.read,
            lambda: [*self._threads.all()],
            lambda records: self._component.contexts(header, records),
            self.stopped,
            self._image.abi.lr_offset,
            self._cpu,
        )

    def endless(self) -> str:
        """Return what to tell of the patches that somebody does not leave, as `cpus_inside`; or nothing."""
        sites = {record.id: record.site for record in self.records()}
        return "; ".join(
            f"patch {patch_id} at {self.image.symbolize(sites[patch_id])} does not end: "
            f"{holder.by} goes on at 0x{holder.address:08x}"
            for patch_id, holders in (self.cpus_inside() if sites else {}).items()
            for holder in holders[:1]
        )

    def code_of_patches(self) -> Code:
        """Return (start, end, name) of the bodies and springboards of all patches, a dead kernel's too."""
        found: Code = []
        for record in self.records():
            found.append((record.body, record.body + record.body_size, f"patch {record.id}"))
            if record.springboard is not None:
                end = record.springboard + SPRINGBOARD_SIZE * record.springboard_slots
                found.append((record.springboard, end, f"springboard of patch {record.id}"))
        return found

    def remove(self, *ids: int, force: bool = False) -> Ids:
        """Take patches out, in one stop; return the ids whose memory is still in use (retired).

        Raises `Misuse` for an unknown id, `Refused` for a damaged patch, whose record ``force`` drops.
        """
        return self.take_out(ids, force=force).retired

    def remove_all(self, *, force: bool = False) -> Ids:
        """Take all out, ids as `remove`; `Refused` names damaged ones, which ``force`` drops."""
        done = self.take_out(None, force=force)
        if done.refused:
            first = done.refused[0]
            more = f"; and {len(done.refused) - 1} more like it" if done.refused[1:] else ""
            raise Refused(first.rule, f"{first}{more}; the others are out", first.address)
        return done.retired

    def take_out(self, ids: Collection[int] | None, *, force: bool = False) -> Removal:
        """Take patches out, all with None, in one stop; say what became of each. As `remove`.

        Of all, updates go first, each as `Updates.remove` has it; a part of one is refused (rule ``update``).
        """
        gone = self.updates.remove_all(force=force) if ids is None else []

        def change(header: Header, basis: bytes) -> Removal:
            self.updates.check_whole(ids or ())
            end = partial(end_of, self, header)
            return take_out(self._component, header, basis, ids, end, force=force)

        removal = self._change(change)
        there = {row.id for row in removal.patches}
        return removal._replace(patches=(*(row for row in gone if row.id not in there), *removal.patches))

    @cached_property
    def updates(self) -> Updates:
        """The updates (.kup files) in the guest: apply, remove, list."""
        from kgdbpatch.kernel.updates import Updates

        return Updates(self)

    @cached_property
    def coverage(self) -> Coverage:
        """Which of the kernel's basic blocks are ever executed: start, run, reset, stop."""
        from kgdbpatch.kernel.coverage import Coverage

        return Coverage(self)

    @property
    def arena_used(self) -> int:
        """Bytes of the arena that hold patch bodies, retired ones included."""
        return self._component.arena(self.header.arena).used()

    def verify(self) -> Verification:
        """Compare the running text with image and patch table; the guest is not stopped."""
        self.header  # noqa: B018 - raises when there is none, or the image is another kernel's
        found = self._text.verify()
        if found is None:  # other clients are busy with the patches
            with self._exclusive():
                found = self._text.verify()
        if found is None:
            raise TargetBusy(f"guest '{self.name}' changes its patches all the time; nothing can be said")
        return found

    # ---- the user's debugger -------------------------------------------------------------------

    def debug(self, *arguments: str, symbols: str | Path | None = None, wait: float | None = None) -> int:
        """Run the user's GDB on the guest at the terminal, with further ``arguments``; return its exit code.

        It has the symbols of the kernel (``symbols`` names another file), its modules and its patches. The
        guest, which may be dead, is held meanwhile; afterwards it goes on, or is paused, as before.

        >>> kernel.debug("-batch", "-ex", "backtrace")
        0
        """
        from kgdbpatch.kernel.debugging import debug

        self._assure_answers()
        path = None if symbols is None else Path(symbols)
        return debug(self, arguments, path, self._wait if wait is None else wait)

    # ---- what is executed ----------------------------------------------------------------------

    @property
    def instructions(self) -> int:
        """Guest instructions executed since power-on; raises `Misuse` unless booted with ``icount``."""
        from kgdbpatch.vm.steps import executed

        return executed(self._qemu)

    def trace(self, site: str | int, *, most: int = 100_000, deadline: float = 30.0) -> Ids:
        """Return the addresses executed from ``site``'s next run to the instruction behind it.

        The guest must have been booted with ``icount``; interrupts wait. Raises `TargetTimeout` when the site
        is not reached within ``deadline`` seconds or left for more than ``most`` instructions.
        """
        from kgdbpatch.vm.steps import step_to

        address = self.resolve(site)
        with self.stopped() as session:
            session.run_to(address, deadline)
            return step_to(self._qemu, session, address + 4, most)

    def trace_call(self, function: str, *, most: int = 100_000, deadline: float = 30.0) -> Ids:
        """Return the addresses executed from a function's next call to its return; as `trace`."""
        from kgdbpatch.vm.steps import step_to

        with self.stopped() as session:
            entered = session.run_to(self[function].address, deadline)
            return step_to(self._qemu, session, entered["lr"], most)
