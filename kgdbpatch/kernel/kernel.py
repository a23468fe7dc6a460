"""The facade: one `Kernel` object that everything hangs on."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar, Unpack

import numpy as np
import numpy.typing as npt

from kgdbpatch.component import Component, Header
from kgdbpatch.component.layout import SPRINGBOARD_SIZE
from kgdbpatch.component.table import Record
from kgdbpatch.cpu.ppc6xx import Ppc6xx
from kgdbpatch.errors import ComponentDamaged, Misuse, Outdated, Refused, TargetBusy, TargetLost, WrongKernel
from kgdbpatch.guests import Recipe
from kgdbpatch.image import Function, Image
from kgdbpatch.image.debug import debug_file
from kgdbpatch.image.kmods import Extension, loaded_extensions, with_extensions
from kgdbpatch.kernel import remembered
from kgdbpatch.kernel.applied import Applied, Batch
from kgdbpatch.kernel.checks import Checker
from kgdbpatch.kernel.health import Health, Watch
from kgdbpatch.kernel.looping import cpus_inside
from kgdbpatch.kernel.planner import Planner
from kgdbpatch.kernel.removal import Removal, as_patch, take_out
from kgdbpatch.kernel.rules import survey_rules
from kgdbpatch.kernel.running import RunningText
from kgdbpatch.kernel.syslog import Log
from kgdbpatch.kernel.threads import Threads
from kgdbpatch.patch.plan import Payload, Plan
from kgdbpatch.patch.request import Asked, PatchRequest
from kgdbpatch.patch.survey import Survey
from kgdbpatch.results import Check, Holder, KernelChange, LiveRegisters, Patch, Verification
from kgdbpatch.vm.gdb import Debugger, Session
from kgdbpatch.vm.inspection import Inspection, Inspector, Value
from kgdbpatch.vm.qemu import Qemu
from kgdbpatch.vm.steps import executed, step_to

if TYPE_CHECKING:
    from kgdbpatch.vm.dialogue import Dialogue

__all__ = [
    "Applied",
    "Batch",
    "Check",
    "Kernel",
    "KernelChange",
    "LiveRegisters",
    "Patch",
    "Removal",
    "Verification",
]

Ids = list[int]
Patches = list[Patch]
Functions = list[Function]
Extensions = list[Extension]
Records = list[Record]
Code = list[tuple[int, int, str]]

_T = TypeVar("_T")

_PLANS = 3  # attempts at a plan while dead clients' orders are still carried out
_TAG = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")  # QEMU takes digits alone for a snapshot's number
_WRONG_KERNEL_SHARE = 0.05  # of the text's words: kernels modify fewer of them while they boot


class Kernel:
    """A PowerPC kernel running in QEMU.

    As a context manager one that was booted is shut down at the end, one that was attached to goes on.

    >>> with Kernel.boot("darwin") as k:
    ...     with k.patch("run_netisr", c=Path("examples/packet_counter.c")):
    ...         print(k.log.wait("packet_counter").message)
    """

    def __init__(self, qemu: Qemu, recipe: Recipe, image: Image, *, wait: float = 10.0) -> None:
        self._qemu, self._recipe, self.image, self._wait = qemu, recipe, image, wait
        self._personality = personality = recipe.personality
        self._closing = ExitStack()
        self._owned = self._paused = False
        self._watch = Watch(qemu, recipe, lambda: image, self.place)
        self._text = RunningText(qemu, personality, image)
        base = image.code_sections()[0].address
        shift = base - (self._text.to_physical(base) or 0)  # of the linear map
        cpu = Ppc6xx()
        self._threads = Threads(qemu, personality, image, cpu, shift)
        self._component = Component(qemu, self._awake, cpu, self._threads)
        self.log = Log(qemu.console, personality)

    # ---- life ------------------------------------------------------------------------

    @classmethod
    def boot(
        cls,
        profile: str | Path,
        name: str | None = None,
        *,
        kernel: str | Path | None = None,
        icount: str | None = None,
        metadata: Mapping[str, object] | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> Kernel:
        """Boot a guest and return when its workload runs and the kernel component is in place.

        Raises `BadImage` for an unusable ``kernel``, `TargetLost` with the console's last words
        when the guest does not come up; nothing is left running then. ``metadata`` is kept in the
        guest's record.
        """
        recipe = Recipe.find(profile)
        kind = recipe.personality
        path = Path(kernel).absolute() if kernel is not None else recipe.build(progress)
        image = kind.checked(Image.load(path))
        progress(f"booting {path.name}")
        qemu = Qemu.start(
            name or recipe.name,
            recipe.machine,
            recipe.memory.memory,
            lambda directory: recipe.qemu_args(path, directory),
            metadata={
                **(metadata or {}),
                "profile": recipe.name,
                "recipe": recipe.text,
                "recipe_path": str(recipe.path),
                "kernel": str(path),
                "sha256": image.sha256,
                "icount": icount,
                "vitals": asdict(kind.vitals(image)),
            },
            icount=icount,
        )
        booted = None
        try:
            dies = f"{kind.panic}|{kind.oops}"
            seen = qemu.console.wait(f"(?P<ready>{recipe.ready})|(?:{dies})", recipe.boot_deadline)
            if seen["ready"] is None:
                raise TargetLost(f"the guest panicked while it booted: {seen.string.strip()}")
            booted = cls(qemu, recipe, image)
            booted._owned = True
            with qemu.exclusive(10.0):
                booted._install()
        except BaseException:
            if booted is not None:
                booted.close()
            qemu.shutdown()
            raise
        return booted

    @classmethod
    def attach(
        cls, name: str, *, image: str | Path | None = None, wait: float = 10.0, dead: bool = False
    ) -> Kernel:
        """Attach to a running guest by name; the guest is not stopped.

        ``image`` overrides the kernel file recorded at boot; ``dead`` lets its kernel be dead.
        Raises `UnknownGuest`, `BadImage`,
        or `WrongKernel` when the file is not the kernel that is running.
        """
        qemu = Qemu.attach(name)
        recipe = Recipe.recorded(qemu.metadata)
        path = image if image is not None else str(qemu.metadata["kernel"])
        kernel = cls(qemu, recipe, recipe.personality.checked(Image.load(path)), wait=wait)
        if not dead:
            kernel.assure_alive()
        kernel._header()  # raises when the image is another kernel's
        return kernel

    @property
    def name(self) -> str:
        """The guest's name."""
        return self._qemu.name

    @property
    def pid(self) -> int:
        """QEMU's process id."""
        return self._qemu.pid

    @property
    def qemu(self) -> Qemu:
        """The guest's QEMU."""
        return self._qemu

    @property
    def profile(self) -> str:
        """The name of the guest's recipe."""
        return self._recipe.name

    @property
    def alive(self) -> bool:
        """Whether QEMU still runs."""
        return self._qemu.alive()

    @property
    def health(self) -> Health:
        """How the kernel is; this takes some seconds where it seems to hang."""
        return self._watch.examine()

    def proof_of_life(self) -> Health:
        """As `health`, but a kernel that prints regularly must do so first: up to a second or so."""
        return self._watch.examine(prove=True)

    def close(self) -> None:
        """End this client's GDB; the guest goes on."""
        self._closing.close()
        self.__dict__.pop("_debugger", None)

    def shutdown(self) -> None:
        """End the guest."""
        self.close()
        self._qemu.shutdown()

    def __repr__(self) -> str:
        return f"Kernel({self.name!r}, {self.profile}, {str(self.image.path)!r}, QEMU process {self.pid})"

    def __enter__(self) -> Kernel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._owned:
            self.shutdown()
        else:
            self.close()

    def _awake(self) -> Debugger:
        """Return the debugger, once it is clear that QEMU will answer it."""
        self._assure_answers()
        return self._debugger

    def _assure_answers(self) -> None:
        if self._qemu.process.suspended():
            raise TargetLost(
                f"guest '{self.name}' is paused: QEMU (process {self.pid}) was stopped by a signal; "
                f"'kill -CONT {self.pid}' lets it go on"
            )

    @cached_property
    def _debugger(self) -> Debugger:
        return self._closing.enter_context(Debugger(self._qemu, self._wait))

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Hold the guest for oneself; what a client that died had ordered is over then."""
        with self._qemu.exclusive(self._wait, settles=True) as orderly:
            header = None if orderly else self._text.header()
            if header is not None:
                self._component.settle(header.arena)
            yield

    def _change(self, change: Callable[[Header, bytes], _T]) -> _T:
        """Make a change that is planned from the arena as it is; plan anew if that is outdated by the stop.

        ``change`` is given the header and the arena's basis.
        """
        with self._exclusive():
            for left in reversed(range(_PLANS)):
                basis = self._component.arena(self.header.arena).basis()
                try:
                    return change(self.header, basis)
                except Outdated:
                    if not left:
                        raise
        raise AssertionError

    # ---- for instruments -----------------------------------------------------------------

    @contextmanager
    def stopped(self) -> Iterator[Session]:
        """Stop the guest and hold it for oneself; yield the debugger's session; then it goes on."""
        with self._exclusive(), self._awake().stopped() as session:
            yield session

    @contextmanager
    def logging_packets(self, path: Path) -> Iterator[None]:
        """Have GDB log the packets that it exchanges with QEMU meanwhile."""
        with self._debugger.logged(path):
            yield

    @property
    def instructions(self) -> int:
        """Guest instructions executed since power-on; raises `Misuse` unless booted with ``icount``."""
        return executed(self._qemu)

    def trace(self, site: str | int, *, most: int = 100_000, deadline: float = 30.0) -> Ids:
        """Return the addresses executed from ``site``'s next run to the instruction behind it.

        The guest must have been booted with ``icount``; interrupts wait meanwhile. What runs
        for a patch at ``site``, or is called there, is part of it. Raises `TargetTimeout` when
        the site is not reached within ``deadline`` seconds or left for more than ``most``
        instructions.
        """
        address = self.resolve(site)
        with self.stopped() as session:
            session.run_to(address, deadline)
            return step_to(self._qemu, session, address + 4, most)

    def trace_call(self, function: str, *, most: int = 100_000, deadline: float = 30.0) -> Ids:
        """Return the addresses executed from a function's next call to its return; as `trace`."""
        with self.stopped() as session:
            entered = session.run_to(self[function].address, deadline)
            return step_to(self._qemu, session, entered["lr"], most)

    @cached_property
    def console(self) -> Dialogue:
        """A dialogue with the guest's console; it begins when this is first used, anew after `restore`."""
        from kgdbpatch.vm.dialogue import Dialogue  # on use: pexpect is slow to import

        return Dialogue(self._qemu.console)

    def send(self, text: str, deadline: float = 10.0) -> None:
        """Type ``text`` on the guest's console; return when the guest has taken it.

        Raises `TargetTimeout` when it does not within ``deadline`` seconds, `TargetBusy` naming another
        client that types.
        """
        self._qemu.console.send(text, deadline)

    # ---- the kernel's debug information ------------------------------------------------

    @contextmanager
    def inspected(self, symbols: str | Path | None = None) -> Iterator[Inspection]:
        """Stop the guest, yield what GDB knows of it by its kernel's debug information; then it goes on.

        The kernel may be dead. ``symbols`` is the file with the information (DWARF), when that is neither
        the kernel's own nor beside it. Raises `BadImage` where there is none, `WrongKernel` when it is
        another kernel's.
        """
        path = debug_file(self.image, None if symbols is None else Path(symbols))
        self._assure_answers()
        with (
            Inspector(self._qemu, path, self._wait) as inspector,
            self._exclusive(),
            inspector.inspected() as inspection,
        ):
            yield inspection

    def evaluate(self, expression: str, *, symbols: str | Path | None = None) -> Value:
        """Return what a C expression is in the kernel now; as `inspected`.

        Nothing is changed by it. Raises `Misuse` with GDB's words for what cannot be evaluated.

        >>> kernel.evaluate("init_task.comm").text
        '"swapper"'
        """
        with self.inspected(symbols) as inspection:
            return inspection.evaluate(expression)

    # ---- the kernel's memory -----------------------------------------------------------

    def read_virtual(self, address: int, size: int) -> bytes:
        """Read memory as the CPU maps it for the kernel, the guest stopped meanwhile; or `MemoryFault`."""
        with self._exclusive():
            return self._component.read(self.header, address, size)

    def extensions(self) -> Extensions:
        """Return the extensions that a Darwin kernel has loaded; the guest is stopped meanwhile."""
        with self._exclusive(), self._component.view(self.header) as read:
            return loaded_extensions(self.image, read)

    def with_extensions(self) -> Image:
        """Return the kernel's image with the code of its loaded extensions."""
        return with_extensions(self.image, self.extensions())

    def words(self, address: int, count: int) -> npt.NDArray[np.uint32]:
        """Return ``count`` instruction words of the running kernel as they are without patches."""
        return self._text.words(address, count)

    def _install(self) -> Header:
        arena = self._text.arena
        physical = self._qemu.ram
        if arena.physical + arena.size > physical.size:
            raise Misuse(f"the guest has no hidden memory at 0x{arena.physical:x}")
        differences = self._text.differences()
        total = sum(words.size for _, words in self._text.pieces())
        if len(differences) > _WRONG_KERNEL_SHARE * total:
            raise self._wrong(f"{len(differences)} of {total} words of code differ")
        cpus = self._qemu.qmp("query-cpus-fast")
        if isinstance(cpus, list) and len(cpus) > 1:
            raise Refused(
                "mapping", f"the guest has {len(cpus)} CPUs; the arena would be mapped for one only"
            )
        self._check_mapping()
        return self._component.install(arena, self.image.sha256, differences)

    def _check_mapping(self) -> None:
        """Raise `Refused` (rule ``mapping``) when the running kernel uses the arena's addresses by now."""
        conflict = self._personality.arena_conflict(self.image, self._qemu.ram.read)
        if conflict is not None:
            at = self._text.arena.virtual
            raise Refused("mapping", f"the arena cannot be mapped at 0x{at:08x}: {conflict}")

    def _wrong(self, why: str) -> WrongKernel:
        return WrongKernel(f"{self.image.path} is not the kernel that runs in '{self.name}': {why}")

    @property
    def header(self) -> Header:
        """The component's header in the guest.

        Raises `WrongKernel` when the image is another's, `DeadKernel` when the kernel has panicked,
        hangs or was reset.
        """
        self.assure_alive()
        return self._header()

    def assure_alive(self) -> None:
        """Raise `DeadKernel` when the kernel has panicked, hangs or was reset."""
        self._watch.assure()

    def _header(self) -> Header:
        try:
            header = self._text.header()
        except ComponentDamaged as error:
            self.assure_alive()  # what is dead is told as such
            raise ComponentDamaged(f"guest '{self.name}': {error}") from error
        if header is None:
            self.assure_alive()
            raise TargetLost(f"guest '{self.name}' carries no kernel component; was it reset? boot it again")
        if header.image_sha256 != self.image.sha256:
            raise self._wrong("it was booted from a file with other contents")
        return header

    # ---- analysis ------------------------------------------------------------------------

    def __getitem__(self, site: str | int) -> Function:
        """Return the function around a site, usually given by its name."""
        function = self.image.function_at(self.resolve(site))
        if function is None:
            raise Misuse(f"'{site}' is no function")
        return function

    @cached_property
    def survey(self) -> Survey:
        """What answers for the sites of this kernel."""
        rules = survey_rules(self._personality, self.image, self.header.baseline)
        return Survey(self.image, rules, self.words, remembered.sites)

    def resolve(self, site: str | int) -> int:
        """Return the address of a site: ``func``, ``func+0x18`` or a number."""
        return site if isinstance(site, int) else self.image.resolve(site)

    def functions(self, pattern: str = "*") -> Functions:
        """Return the functions that a glob names, with or without Darwin's ``_``.

        >>> kernel.patch_all([function.address for function in kernel.functions("tcp_*")], count=True)
        """
        return self.image.matching(pattern)

    def live(self, site: str | int) -> LiveRegisters:
        """Return which registers are live and which are free at a site."""
        address = self.resolve(site)
        instruction, live, free = self.survey.live(address)
        return LiveRegisters(address, instruction.written_for(self.image.model), live, free)

    def why(self, site: str | int) -> dict[str, int | None]:
        """Return, for every register live at a site, the nearest instruction that may read it.

        A call or a way out of the function stands for what lies behind it; None is for registers
        that are live by decree.
        """
        return self.survey.why(self.resolve(site))

    def check(self, site: str | int, *, count: bool = False) -> Check:
        """Say whether a function could be called from a site, at what cost, and if not where else.

        With ``count`` it is a counter that could be put there.
        """
        return self.checker(count=count).check(self.resolve(site))

    def checker(self, *, count: bool = False) -> Checker:
        """Return what judges sites of this kernel, many at a time; as `check`."""
        return Checker(self.image, self._planner(self.header), count=count)

    # ---- patches ---------------------------------------------------------------------------

    def _planner(self, header: Header, request: PatchRequest | None = None) -> Planner:
        via = request.via if request else "auto"
        self._check_mapping()  # modules may have been loaded since
        arena = self._component.arena(header.arena)
        tails = self._text.free_tails() if via == "tails" else []
        return Planner(
            self.image,
            self.survey,
            arena,
            hook=self._text.hook,
            via=via,
            force=request is not None and request.force,
            tails=tails,
            stack=self._personality.stack_size(self.image),
        )

    def plan(
        self,
        site: str | int,
        request: PatchRequest | None = None,
        **asked: Unpack[Asked],
    ) -> Plan:
        """Plan a patch without touching the guest; arguments as for `patch`."""
        request = request or PatchRequest(**asked)
        planner = self._planner(self.header, request)
        return planner.one(self.resolve(site), planner.payload(request))[1]

    def patch(
        self,
        site: str | int,
        request: PatchRequest | None = None,
        **asked: Unpack[Asked],
    ) -> Applied:
        """Put code at a site of the running kernel: one stop, one splice word.

        What is asked for is a `PatchRequest`, or its fields by name. ``asm`` is assembler text or the
        `pathlib.Path` of a file with it, ``c`` C text or such a file, whose function is called with r3..r10
        as they are at the site, ``call`` a kernel function. ``count`` makes an assembler payload count its
        hits (calls always do); alone, it makes a patch that only counts. ``via="trap"`` has the patch
        entered by a trap, which costs more, even where a branch would do; ``via="tails"`` takes springboards
        in the unused tails of the exception vectors. ``force`` goes against the rules that may be lifted; the
        patch table tells of it.

        Raises `Refused` by rule, `BadPatch`, `Misuse`, `TargetBusy`.

        >>> with kernel.patch("udp_sendmsg", count=True) as patch:
        ...     print(patch.hits)
        """
        request = request or PatchRequest(**asked)

        def change(header: Header, basis: bytes) -> Applied:
            planner = self._planner(header, request)
            payload = planner.payload(request)
            slot, made = planner.one(self.resolve(site), payload)
            (identity,) = self._component.apply(header, [(slot, made)], self._text.hook, basis)
            return Applied(self, identity, made, self._component.pause)

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

        Sites that a rule forbids are left out and told in the answer's ``refused``. ``progress``
        hears how far the planning is. Raises `Misuse` when a site is given twice.
        """
        chosen, request = [*sites], request or PatchRequest(**asked)

        def change(header: Header, basis: bytes) -> Batch:
            planner = self._planner(header, request)
            payload = planner.payload(request)
            wanted = [(self.resolve(site), payload) for site in chosen]
            return self._put_in(header, basis, planner, wanted, progress)

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
        planned, refused = planner.each(wanted, progress)
        ids = self._component.apply(header, planned, self._text.hook, basis)
        pause = self._component.pause
        made = (
            Applied(self, identity, plan, pause) for identity, (_, plan) in zip(ids, planned, strict=True)
        )
        return Batch(tuple(made), tuple(refused), round(pause * 1e6))

    def records(self) -> Records:
        """Return the patch table as it lies in the guest's memory, of a dead kernel too."""
        header = self._text.header() if self.alive else None
        return [] if header is None else self._component.arena(header.arena).records()

    def place(self, address: int) -> str:
        """Return what is at an address, patches included: ``func+0x18``, ``patch 1 at func``."""
        records: Records = []
        with suppress(ComponentDamaged):
            records = self.records()
        for record in records:
            if record.body <= address < record.body + record.body_size:
                return f"0x{address:08x} (patch {record.id} at {self.image.symbolize(record.site)})"
        return f"0x{address:08x} ({self.image.symbolize(address)})"

    @property
    def patches(self) -> Patches:
        """The patch table as it is now; the guest is not stopped. Raises `DeadKernel`."""
        return self.patch_table() if self.header else []

    def patch_table(self) -> Patches:
        """Return the patch table, of a dead kernel too; the guest is not stopped."""
        header = self._header()
        arena = self._component.arena(header.arena)
        records = arena.records()
        any_retired = any(record.status == "retired" for record in records)
        held = self._threads.holders(self._component, header, records) if any_retired else {}
        return [
            replace(as_patch(record), held_by=held.get(record.id, ()), skipped=arena.skipped(record))
            for record in records
        ]

    def list(self) -> Patches:
        """Return `patches`; the older name."""
        return self.patches

    def cpus_inside(self) -> dict[int, tuple[Holder, ...]]:
        """Return, by id, the CPUs or threads that do not leave a patch, the kernel dead or not.

        The guest is not stopped, unless somebody seems not to leave a patch that does not count.
        """
        header = self._header()
        return cpus_inside(
            self._qemu,
            self._component.arena(header.arena),
            self._threads.read,
            lambda: [*self._threads.all()],
            lambda records: self._component.contexts(header, records),
            self.stopped,
            self.image.abi.lr_offset,
        )

    def endless(self) -> str:
        """Return what to tell of the patches that somebody does not leave, as `cpus_inside`; or nothing."""
        sites = {record.id: record.site for record in self.records()}
        return "; ".join(
            f"patch {identity} at {self.image.symbolize(sites[identity])} does not end: "
            f"{holder.by} goes on at 0x{holder.address:08x}"
            for identity, holders in (self.cpus_inside() if sites else {}).items()
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

        Removing a retired patch tries again to free its memory. Raises `Misuse` for an id that
        the table does not have, `Refused` for a damaged one, whose record ``force`` drops.
        """
        return self.take_out(ids, force=force).retired

    def remove_all(self, *, force: bool = False) -> Ids:
        """Take all patches out; return the ids whose memory is still in use.

        Raises `Refused` naming the damaged ones when the others are out; ``force`` drops them too.
        """
        done = self.take_out(None, force=force)
        if done.refused:
            first = done.refused[0]
            more = f"; and {len(done.refused) - 1} more like it" if done.refused[1:] else ""
            raise Refused(first.rule, f"{first}{more}; the others are out", first.address)
        return done.retired

    def take_out(self, ids: Collection[int] | None, *, force: bool = False) -> Removal:
        """Take patches out, all with None, in one stop; say what became of each. As `remove`."""
        return self._change(lambda header, basis: take_out(self._component, header, basis, ids, force=force))

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

    def pause(self) -> None:
        """Halt the guest until `resume`; its time stands still and the host's CPU is free.

        Whatever is done to it meanwhile leaves it paused.
        """
        with self._qemu.exclusive(self._wait):
            self._qemu.qmp("stop")
        self._paused = True

    def resume(self) -> None:
        """Let a paused guest go on."""
        with self._qemu.exclusive(self._wait):
            self._qemu.qmp("cont")
        self._paused = False

    @property
    def paused_here(self) -> bool:
        """Whether `pause` was the last to be called of it and `resume`."""
        return self._paused

    # ---- snapshots ---------------------------------------------------------------------------

    def snapshot(self, tag: str) -> None:
        """Save the guest's whole state under ``tag``; raise `Misuse` for one that QEMU could take amiss."""
        if not _TAG.fullmatch(tag):
            raise Misuse(f"'{tag}' cannot name a snapshot: letters, digits, . _ -, the first a letter")
        with self._exclusive():
            self._component.snapshot(self.header, tag)

    def restore(self, tag: str) -> None:
        """Put the guest back to the state saved under ``tag`` and let it go on from there."""
        with self._qemu.exclusive(self._wait, settles=True):
            self._component.restore(self._personality.memory.announced << 20, tag)
            self._qemu.qmp("cont")
        self._paused = False
        self.__dict__.pop("survey", None)
        self.__dict__.pop("console", None)
