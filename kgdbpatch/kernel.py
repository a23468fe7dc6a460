"""The facade: one `Kernel` object that everything hangs on."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from kgdbpatch import guests
from kgdbpatch.component import Component, Header, Record
from kgdbpatch.errors import BadPatch, Misuse, Refused, TargetLost, WrongKernel
from kgdbpatch.guests.profile import Profile
from kgdbpatch.image import Function, Image
from kgdbpatch.patch.assemble import assemble
from kgdbpatch.patch.compile import compile_c, link
from kgdbpatch.patch.plan import (
    Payload,
    Place,
    Plan,
    Site,
    asm_payload,
    blob_payload,
    call_payload,
    count_payload,
    plan,
)
from kgdbpatch.patch.survey import Survey
from kgdbpatch.rules import survey_rules
from kgdbpatch.syslog import Log
from kgdbpatch.target.gdb import Debugger
from kgdbpatch.target.machine import MachineDescription
from kgdbpatch.target.qemu import Qemu

__all__ = ["Applied", "Check", "Kernel", "LiveRegisters", "Patch", "Verification"]

Ids = list[int]  # within Kernel the name `list` is the method's

_NEAR = 128  # sites looked at for one that would do
_WRONG_KERNEL_SHARE = 0.05  # of the text's words: kernels modify fewer of them while they boot


@dataclass(frozen=True, slots=True)
class Check:
    """The answer to "may I patch here?"; ``saved`` and ``body_words`` are those of a call."""

    site: int
    ok: bool
    reason: str | None
    nearest: int | None
    springboard: bool
    saved: tuple[str, ...]
    body_words: int


@dataclass(frozen=True, slots=True)
class LiveRegisters:
    """The instruction at ``address``, the registers live before it and those a patch may use."""

    address: int
    instruction: str
    live: tuple[str, ...]
    free: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Patch:
    """An entry of the guest's patch table; ``hits`` is None for patches that do not count."""

    id: int
    site: int
    state: str
    hits: int | None


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether the running text is its image plus the recorded patches; ``mismatched`` are addresses."""

    ok: bool
    patched: int
    mismatched: tuple[int, ...]


class Applied:
    """A patch just put in; as a context manager it is taken out at the end."""

    def __init__(self, kernel: Kernel, identity: int, made: Plan, pause: float) -> None:
        self._kernel = kernel
        self.id, self.site, self.saved = identity, made.site, made.saved
        self.springboard, self.body, self.body_words = made.springboard, made.body, made.body_words
        self.pause_us = round(pause * 1e6)

    @property
    def hits(self) -> int | None:
        """How often the patch ran, read from the running guest."""
        return next((patch.hits for patch in self._kernel.list() if patch.id == self.id), None)

    def remove(self) -> None:
        """Take the patch out."""
        self._kernel.remove(self.id)

    def __enter__(self) -> Applied:
        return self

    def __exit__(self, *_: object) -> None:
        if any(patch.id == self.id and patch.state != "retired" for patch in self._kernel.list()):
            self.remove()


class Kernel:
    """A PowerPC kernel running in QEMU.

    >>> with Kernel.boot("darwin") as k:
    ...     with k.patch("run_netisr", c="examples/packet_counter.c"):
    ...         print(k.log.wait("packet_counter").message)
    """

    def __init__(self, qemu: Qemu, profile: Profile, image: Image, *, wait: float = 10.0) -> None:
        self._qemu, self._profile, self.image, self._wait = qemu, profile, image, wait
        self._closing = ExitStack()
        self._component = Component(qemu, lambda: self._debugger, self._to_physical)
        self.log = Log(qemu.console, profile)

    # ---- life ------------------------------------------------------------------------

    @classmethod
    def boot(
        cls,
        profile: str,
        name: str | None = None,
        *,
        kernel: str | Path | None = None,
        icount: str | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> Kernel:
        """Boot a guest and return when its workload runs and the kernel component is in place.

        Raises `BadImage` for an unusable ``kernel``, `TargetLost` with the console's last words
        when the guest does not come up; nothing is left running then.
        """
        kind = guests.profile(profile)
        path = Path(kernel).absolute() if kernel is not None else kind.build(progress)
        image = Image.load(path)
        progress(f"booting {path.name}")
        qemu = Qemu.start(
            name or profile,
            MachineDescription.load(kind.machine),
            kind.memory_mib,
            lambda directory: kind.qemu_args(path, directory),
            metadata={"profile": profile, "kernel": str(path), "sha256": image.sha256},
            icount=icount,
        )
        try:
            seen = qemu.console.wait(f"(?P<ready>{kind.ready})|(?:{kind.panic})", kind.boot_deadline)
            if seen["ready"] is None:
                raise TargetLost(f"the guest panicked while it booted: {seen.string.strip()}")
            booted = cls(qemu, kind, image)
            with qemu.exclusive(10.0):
                booted._install()
        except BaseException:
            qemu.shutdown()
            raise
        return booted

    @classmethod
    def attach(cls, name: str, *, image: str | Path | None = None, wait: float = 10.0) -> Kernel:
        """Attach to a running guest by name; the guest is not stopped.

        ``image`` overrides the kernel file recorded at boot. Raises `UnknownGuest`, `BadImage`,
        or `WrongKernel` when the file is not the kernel that is running.
        """
        qemu = Qemu.attach(name)
        kernel = cls(
            qemu,
            guests.profile(str(qemu.metadata["profile"])),
            Image.load(image if image is not None else str(qemu.metadata["kernel"])),
            wait=wait,
        )
        kernel.header  # noqa: B018 - raises when the image is another kernel's
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
    def profile(self) -> str:
        """The name of the guest's profile."""
        return self._profile.name

    @property
    def alive(self) -> bool:
        """Whether QEMU still runs."""
        return self._qemu.alive()

    def close(self) -> None:
        """End this client's GDB; the guest goes on."""
        self._closing.close()
        self.__dict__.pop("_debugger", None)

    def shutdown(self) -> None:
        """End the guest."""
        self.close()
        self._qemu.shutdown()

    def __enter__(self) -> Kernel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()

    @cached_property
    def _debugger(self) -> Debugger:
        return self._closing.enter_context(Debugger(self._qemu))

    # ---- the kernel's memory -----------------------------------------------------------

    def _to_physical(self, address: int) -> int | None:
        return self._profile.to_physical(self.image, address)

    def _raw_words(self, address: int, count: int) -> npt.NDArray[np.uint32]:
        physical = self._to_physical(address)
        if physical is None or physical + 4 * count > self._qemu.ram.size:
            raise Refused("memory", f"0x{address:08x} is not wired kernel memory", address)
        return np.frombuffer(self._qemu.ram.read(physical, 4 * count), ">u4").astype(np.uint32)

    def read_virtual(self, address: int, size: int) -> bytes:
        """Read memory as the CPU maps it for the kernel, the guest stopped meanwhile; or `MemoryFault`."""
        with self._qemu.exclusive(self._wait):
            return self._component.read(self.header, address, size)

    def words(self, address: int, count: int) -> npt.NDArray[np.uint32]:
        """Return ``count`` instruction words of the running kernel as they are without patches."""
        words = self._raw_words(address, count)
        header = self._component.header(self._profile.announced_mib << 20)
        end = address + 4 * count
        for record in self._component.arena(header.arena).records(address, end) if header else ():
            if record.spliced:
                words[(record.site - address) // 4] = record.original
        return words

    @cached_property
    def _arena(self) -> guests.ArenaPlan:
        return self._profile.arena(self.image)

    def _text(self) -> list[tuple[int, npt.NDArray[np.uint32]]]:
        """Return (address, words of the image) of all code that stays in memory after boot."""
        pieces = []
        windows = [(window.start, window.end) for window in self._profile.discarded(self.image)]
        for section in self.image.code_sections():
            words = self.image.words(section)
            kept = not any(start <= section.address < end for start, end in windows)
            if kept and words.size and self._to_physical(section.address) is not None:
                pieces.append((section.address, words))
        return pieces

    def _differences(self) -> dict[int, int]:
        """Return address ─► running word wherever the running text is not the image's."""
        found = {}
        for address, words in self._text():
            running = self._raw_words(address, words.size)
            for index in np.flatnonzero(running != words):
                found[address + 4 * int(index)] = int(running[index])
        return found

    def _install(self) -> Header:
        arena = self._arena
        physical = self._qemu.ram
        if arena.physical + arena.size > physical.size:
            raise Misuse(f"the guest has no hidden memory at 0x{arena.physical:x}")
        differences = self._differences()
        total = sum(words.size for _, words in self._text())
        if len(differences) > _WRONG_KERNEL_SHARE * total:
            raise self._wrong(f"{len(differences)} of {total} words of code differ")
        conflict = self._profile.arena_conflict(self.image, physical.read)
        if conflict is not None:
            raise Refused("mapping", f"the arena cannot be mapped at 0x{arena.virtual:08x}: {conflict}")
        return self._component.install(arena, self.image.sha256, differences)

    def _wrong(self, why: str) -> WrongKernel:
        return WrongKernel(f"{self.image.path} is not the kernel that runs in '{self.name}': {why}")

    @property
    def header(self) -> Header:
        """The component's header in the guest; raises `WrongKernel` when the image is another's."""
        header = self._component.header(self._profile.announced_mib << 20)
        if header is None:
            raise TargetLost(f"guest '{self.name}' carries no kernel component; was it reset? boot it again")
        if header.image_sha256 != self.image.sha256:
            raise self._wrong("it was booted from a file with other contents")
        return header

    # ---- analysis ------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Function:
        function = self.image.function_at(self.image.lookup(name))
        if function is None:
            raise Misuse(f"'{name}' is no function")
        return function

    @cached_property
    def _survey(self) -> Survey:
        return Survey(self.image, survey_rules(self._profile, self.image), self.words)

    def resolve(self, site: str | int) -> int:
        """Return the address of a site: ``func``, ``func+0x18`` or a number."""
        return site if isinstance(site, int) else self.image.resolve(site)

    def live(self, site: str | int) -> LiveRegisters:
        """Return which registers are live and which are free at a site."""
        address = self.resolve(site)
        instruction, live, free = self._survey.live(address)
        return LiveRegisters(address, instruction.text, live, free)

    def check(self, site: str | int) -> Check:
        """Say whether a function could be called from a site, at what cost, and if not where else."""
        header, address = self.header, self.resolve(site)
        try:
            made = self._plan(header, address, self._any_call())[1]
        except Refused as refused:
            return Check(address, False, str(refused), self._nearest(header, address, refused), False, (), 0)
        return Check(address, True, None, None, made.springboard_used, made.saved, made.body_words)

    def _any_call(self) -> Payload:
        return call_payload(self.image.code_sections()[0].address, self.image.abi)

    def _nearest(self, header: Header, address: int, refused: Refused) -> int | None:
        """Return the nearest site of the same function that could carry a call."""
        arena, payload = self._component.arena(header.arena), self._any_call()
        taken = {record.site for record in arena.records() if record.status != "retired"}
        place = arena.place(0)[1]
        for other in itertools.islice(self._survey.nearby(address), _NEAR):
            if other in taken:
                continue
            try:
                plan(self._survey.site(other), payload, place)
            except Refused:
                continue
            return other
        return refused.nearest

    # ---- patches ---------------------------------------------------------------------------

    def _plan(self, header: Header, address: int, payload: Payload) -> tuple[int, Plan]:
        """Return a table slot and the plan of ``payload`` at ``address``, placed in free memory."""
        site = self._survey.site(address)
        for record in self._component.arena(header.arena).records(address, address + 4):
            if record.status != "retired":
                raise self._taken(record)
        slot, place = self._component.arena(header.arena).place(0)
        draft = plan(site, payload, place)  # to learn its size
        sizes = len(draft.code), len(draft.springboard_code)
        slot, place = self._component.arena(header.arena).place(*sizes)
        return slot, self._replan(site, payload, place, draft)

    @staticmethod
    def _replan(site: Site, payload: Payload, place: Place, draft: Plan) -> Plan:
        made = plan(site, payload, place) if place.body != draft.body else draft
        assert len(made.code) <= len(draft.code), "a patch grew when it was moved"
        return made

    def _taken(self, record: Record) -> Refused:
        what = f"0x{record.site:08x} ({self.image.symbolize(record.site)})"
        if record.status == "unfinished":
            return Refused(
                "unfinished",
                f"{what} belongs to patch {record.id}, whose apply was cut off; remove {record.id} first",
                record.site,
            )
        return Refused("taken", f"{what} already carries patch {record.id}; remove it first", record.site)

    def _payload(
        self,
        asm: str | Path | None,
        c: str | Path | None,
        call: str | int | None,
        entry: str | None,
        count: bool,
        origin: int,
    ) -> Payload:
        given = sum(what is not None for what in (asm, c, call))
        if given == 0 and count:
            return count_payload()
        if given != 1:
            raise Misuse("give exactly one of asm, c and call, or count alone")
        if entry is not None and c is None:
            raise Misuse("entry goes with a C payload")
        if call is not None:
            target = self.resolve(call)
            self._survey.function(target)
            return call_payload(target, self.image.abi)
        if c is not None:
            compiled = compile_c(Path(c), entry=entry)

            @cache
            def at(address: int) -> tuple[bytes, int, int]:
                linked = link(compiled, address, self.image.lookup, abi=self.image.abi)
                return linked.code, linked.constant_size, linked.entry

            linked = link(compiled, origin, self.image.lookup, abi=self.image.abi)
            text = np.frombuffer(linked.code[: linked.text_size], ">u4").tolist()
            return blob_payload(at, self.image.abi, text)
        assert asm is not None
        source, filename = _assembler_source(asm)

        @cache
        def words(address: int) -> list[int]:
            code = assemble(source, origin=address, symbols=self.image.lookup, filename=filename)
            return [int(word) for word in np.frombuffer(code, ">u4")]

        return asm_payload(words, origin, self.image.abi, counted=count)

    def plan(
        self,
        site: str | int,
        *,
        asm: str | Path | None = None,
        c: str | Path | None = None,
        call: str | int | None = None,
        entry: str | None = None,
        count: bool = False,
    ) -> Plan:
        """Plan a patch without touching the guest; arguments as for `patch`."""
        return self._prepare(self.header, site, asm, c, call, entry, count)[1]

    def _prepare(
        self,
        header: Header,
        site: str | int,
        asm: str | Path | None,
        c: str | Path | None,
        call: str | int | None,
        entry: str | None,
        count: bool,
    ) -> tuple[int, Plan]:
        address = self.resolve(site)
        origin = self._component.arena(header.arena).place(0)[1].body
        payload = self._payload(asm, c, call, entry, count, origin)
        try:
            return self._plan(header, address, payload)
        except Refused as refused:
            if refused.nearest is None:
                nearest = self._nearest(header, address, refused)
                if nearest is not None:
                    raise Refused(
                        refused.rule,
                        f"{refused}; nearest site that would do: {self.image.symbolize(nearest)}",
                        refused.address,
                        nearest,
                    ) from refused
            raise

    def patch(
        self,
        site: str | int,
        *,
        asm: str | Path | None = None,
        c: str | Path | None = None,
        call: str | int | None = None,
        entry: str | None = None,
        count: bool = False,
    ) -> Applied:
        """Put code at a site of the running kernel: one stop, one splice word.

        ``asm`` is assembler text or the `pathlib.Path` of a file with it, ``c`` a C
        file whose function is called with r3..r10 as they are at the site, ``call`` a kernel
        function. ``count`` makes an assembler payload count its hits (calls always do); alone, it
        makes a patch that only counts.
        Raises `Refused` by rule, `BadPatch`, `TargetBusy`.
        """
        with self._qemu.exclusive(self._wait):
            header = self.header
            slot, made = self._prepare(header, site, asm, c, call, entry, count)
            identity = self._component.apply(header, slot, made)
            return Applied(self, identity, made, self._component.pause)

    def list(self) -> list[Patch]:
        """Return the patch table; the guest is not stopped."""
        return [
            Patch(record.id, record.site, record.status, record.hits if record.counted else None)
            for record in self._component.arena(self.header.arena).records()
        ]

    def remove(self, *ids: int) -> Ids:
        """Take patches out, in one stop; return the ids whose memory is still in use (retired).

        Removing a retired patch tries again to free its memory. Raises `Misuse` for an id that
        the table does not have.
        """
        with self._qemu.exclusive(self._wait):
            header = self.header
            records = {record.id: record for record in self._component.arena(header.arena).records()}
            for identity in ids:
                if identity not in records:
                    raise Misuse(f"guest '{self.name}' has no patch {identity}")
                if records[identity].status == "damaged":
                    site = records[identity].site
                    raise Refused(
                        "expected",
                        f"the word at 0x{site:08x} is neither patch {identity}'s nor the original one",
                        site,
                    )
            return self._component.remove(header, [records[identity] for identity in ids])

    def remove_all(self) -> Ids:
        """Take all patches out; return the ids whose memory is still in use."""
        return self.remove(*(patch.id for patch in self.list()))

    @property
    def arena_used(self) -> int:
        """Bytes of the arena that hold patch bodies, retired ones included."""
        return self._component.arena(self.header.arena).used()

    def verify(self) -> Verification:
        """Compare the running text with image and patch table; the guest is not stopped."""
        header = self.header
        expected = dict(header.baseline)
        patched, mismatched = 0, set()
        for record in self._component.arena(header.arena).records():
            if record.spliced:
                expected[record.site] = record.splice
                patched += 1
            if record.status == "damaged" or not self._component.arena(header.arena).intact(record):
                mismatched.add(record.site)
        differences = self._differences()
        mismatched |= {address for address, word in differences.items() if expected.get(address) != word}
        mismatched |= {address for address in expected if address not in differences}
        return Verification(not mismatched, patched, tuple(sorted(mismatched)))

    def pause(self) -> None:
        """Halt the guest until `resume`; its time stands still and the host's CPU is free."""
        self._qemu.qmp("stop")

    def resume(self) -> None:
        """Let a paused guest go on."""
        self._qemu.qmp("cont")

    # ---- snapshots ---------------------------------------------------------------------------

    def snapshot(self, tag: str) -> None:
        """Save the guest's whole state under ``tag``; a paused guest goes on afterwards."""
        with self._qemu.exclusive(self._wait):
            self._component.snapshot(self.header, tag)

    def restore(self, tag: str) -> None:
        """Put the guest back to the state saved under ``tag`` and let it go on from there."""
        with self._qemu.exclusive(self._wait):
            self._component.restore(self._profile.announced_mib << 20, tag)
        self.__dict__.pop("_survey", None)


def _assembler_source(asm: str | Path) -> tuple[str, str]:
    if isinstance(asm, str):
        return asm, "<asm>"
    try:
        return asm.read_text(), str(asm)
    except OSError as error:
        raise BadPatch(f"{asm}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadPatch(f"{asm}: not a text file") from error
