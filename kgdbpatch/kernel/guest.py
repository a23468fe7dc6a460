"""A guest with its kernel: booted or attached to, held for oneself, stopped, read, talked to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import numpy as np
import numpy.typing as npt

from kgdbpatch.component import ComponentClient, Header
from kgdbpatch.component.table import Record
from kgdbpatch.errors import ComponentDamaged, Outdated, Refused, TargetLost, TargetTimeout, WrongKernel
from kgdbpatch.guests import Recipe
from kgdbpatch.image import Image
from kgdbpatch.kernel import booting, family, unpatched
from kgdbpatch.kernel.attached_health import watch
from kgdbpatch.kernel.calls import Calls
from kgdbpatch.kernel.health import Health
from kgdbpatch.kernel.install import install, wrong_kernel
from kgdbpatch.kernel.lending import Lender, given_up, with_memory
from kgdbpatch.kernel.reservation import Reservation
from kgdbpatch.kernel.running import RunningText
from kgdbpatch.kernel.syslog import Log
from kgdbpatch.kernel.threads import Threads
from kgdbpatch.vm.qemu import Qemu

if TYPE_CHECKING:
    from kgdbpatch.vm.dialogue import Dialogue
    from kgdbpatch.vm.gdb import Debugger, Session
    from kgdbpatch.vm.inspection import Inspection, Value

__all__ = ["RunningGuest"]

Records = list[Record]

_T = TypeVar("_T")

_PLANS = 3  # attempts at a plan while dead clients' orders are still carried out


class RunningGuest:
    """A guest and its kernel; as a context manager it is shut down at the end if it was booted here."""

    def __init__(self, qemu: Qemu, recipe: Recipe, image: Image, *, wait: float = 10.0) -> None:
        self._qemu, self._recipe, self._wait = qemu, recipe, wait
        self._personality = personality = recipe.personality
        self._closing = ExitStack()
        self._owned = self._paused = False
        self._watch = watch(qemu, recipe, lambda: image, self.place)
        known = self.unpatchable is None
        self._cpu = family.found(qemu, self._awake, wait) if known else family.noted(qemu.directory)
        self._image = image = image.on(self._cpu.model)
        self._text = RunningText(qemu, personality, image, self._cpu)
        base = image.code_sections()[0].address
        shift = base - (self._text.to_physical(base) or 0)  # of the linear map
        self._threads = Threads(qemu, personality, image, self._cpu, shift)
        self._component = ComponentClient(qemu, self._awake, self._cpu, self._threads)
        self._calls = Calls(qemu, self._awake, self._cpu, personality, image, self._text)
        self._reservation = Reservation(qemu, personality, image, self._calls, self._text)
        self._lender = Lender(qemu, self._awake, self._cpu, personality, image, self._calls, self._text)

    # ---- life ------------------------------------------------------------------------

    @classmethod
    def boot(
        cls,
        profile: str | Path | Recipe,
        name: str | None = None,
        *,
        kernel: str | Path | None = None,
        icount: str | None = None,
        patchable: bool = True,
        metadata: Mapping[str, object] | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> Self:
        """Boot a guest and return when its workload runs and the kernel component is in place.

        Raises `BadImage` for an unusable ``kernel``, `TargetLost` with the console's last words when the
        guest does not come up; nothing is left running then. Where no patches can be put in,
        ``patchable=False`` leaves it running: `unpatchable` says why. ``metadata`` is kept in the guest's
        record.
        """
        recipe = profile if isinstance(profile, Recipe) else Recipe.find(profile)
        path = Path(kernel).absolute() if kernel is not None else recipe.build(progress)
        image = recipe.personality.checked(Image.load(path))
        progress(f"booting {path.name}")
        qemu = booting.start(recipe, image, name or recipe.name, icount, metadata or {})
        booted = None
        try:
            booting.wait_until_ready(qemu, recipe)
            try:
                booted = cls(qemu, recipe, image)
                with qemu.exclusive(10.0):
                    booted = with_memory(booted)
                    install(qemu, booted._image, booted._text, booted._component, booted._reservation)
            except (Refused, WrongKernel, TargetTimeout) as error:  # the last: its processes call nothing
                if patchable or (booted is not None and booted._watch.glance().dead):
                    raise
                unpatched.note(qemu, error)
                booted = booted or cls(qemu, recipe, image)
                with qemu.exclusive(10.0):
                    given_up(booted._lender)
            booted._owned = True
        except BaseException:
            if booted is not None:
                booted.close()
            qemu.shutdown()
            raise
        return booted

    @classmethod
    def attach(
        cls, name: str, *, image: str | Path | None = None, wait: float = 10.0, dead: bool = False
    ) -> Self:
        """Attach to a running guest by name; it is not stopped. With ``dead`` its kernel may be dead.

        ``image`` overrides the kernel file recorded at boot. Raises `UnknownGuest`, `BadImage`,
        `WrongKernel`.
        """
        qemu = Qemu.attach(name)
        recipe = Recipe.recorded(qemu.metadata)
        path = image if image is not None else str(qemu.metadata["kernel"])
        kernel = cls(qemu, recipe, recipe.personality.checked(Image.load(path)), wait=wait)
        if not dead:
            kernel.assure_alive()
        if kernel.unpatchable is None:
            kernel._header()  # raises when the image is another kernel's
        return kernel

    @cached_property
    def log(self) -> Log:
        """The guest's syslog; raise `Misuse` where its console is not known."""
        return Log(self._qemu.console, self._personality)

    @property
    def image(self) -> Image:
        """The kernel's image; it knows the modules that are loaded now."""
        return self._text.images.image()

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
    def unpatchable(self) -> str | None:
        """Why no patches can be put into this guest; None where they can."""
        return unpatched.reason(self._qemu)

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
        """End this client's GDB and let go of all that was opened; the guest goes on."""
        self._closing.close()
        self._qemu.close()
        self.__dict__.pop("debugger", None)

    def shutdown(self) -> None:
        """End the guest."""
        self.close()
        self._qemu.shutdown()

    def __repr__(self) -> str:
        return f"Kernel({self.name!r}, {self.profile}, {str(self._image.path)!r}, QEMU process {self.pid})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._owned:
            self.shutdown()
        else:
            self.close()

    def _awake(self) -> Debugger:
        """Return the debugger, once it is clear that QEMU will answer it."""
        self._assure_answers()
        return self.debugger

    def _assure_answers(self) -> None:
        if self._qemu.process.suspended():
            raise TargetLost(
                f"guest '{self.name}' is paused: QEMU (process {self.pid}) was stopped by a signal; "
                f"'kill -CONT {self.pid}' lets it go on"
            )

    @cached_property
    def debugger(self) -> Debugger:
        """This client's GDB; it is started when the guest is first to be stopped, or changed."""
        from kgdbpatch.vm.gdb import Debugger

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
        """Make a change, planned by header and basis of the arena; anew if a stop outdates that."""
        with self._exclusive():
            self._awake()  # GDB comes up while one plans
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
        with self.debugger.logged(path):
            yield

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

    def pause(self) -> bool:
        """Halt the guest until `resume`, whatever is done meanwhile; its time stands still.

        Returns whether it ran before. Its kernel may be dead.
        """
        from kgdbpatch.kernel.pausing import let_run

        self._assure_answers()
        ran = let_run(self._qemu, self._awake, self._wait, wanted=False)
        self._paused = True
        return ran

    def resume(self) -> bool:
        """Let a paused guest go on; return whether it was paused. Raises `DeadKernel` for a dead kernel."""
        from kgdbpatch.kernel.pausing import let_run

        self._assure_answers()
        self._watch.assure_seen()
        was_paused = not let_run(self._qemu, self._awake, self._wait, wanted=True)
        self._paused = False
        return was_paused

    @property
    def paused_here(self) -> bool:
        """Whether `pause` was the last to be called of it and `resume`."""
        return self._paused

    @cached_property
    def console(self) -> Dialogue:
        """A dialogue with the guest's console; it begins when this is first used, anew after `restore`."""
        from kgdbpatch.vm.dialogue import Dialogue  # on use: pexpect is slow to import

        return Dialogue(self._qemu.console)

    def send(self, text: str, deadline: float = 10.0) -> None:
        """Type ``text`` on the console; return when the guest has taken it; errors as of `Console`."""
        self._qemu.console.send(text, deadline)

    # ---- the kernel's debug information ------------------------------------------------

    @contextmanager
    def inspected(self, symbols: str | Path | None = None) -> Iterator[Inspection]:
        """Stop the guest, be it dead, yield what GDB knows of it; then it goes on.

        ``symbols`` is the file with DWARF, when that is neither the kernel's own nor beside it. Raises
        `BadImage` where there is none, `WrongKernel` when it is another kernel's.
        """
        from kgdbpatch.image.debug import debug_file
        from kgdbpatch.kernel.inspecting import leave_process
        from kgdbpatch.vm.inspection import Inspector

        path = debug_file(self._image, None if symbols is None else Path(symbols))
        self._assure_answers()
        with (
            Inspector(self._qemu, path, self._wait) as inspector,
            self._exclusive(),
            inspector.inspected() as inspection,
        ):
            leave_process(self._cpu, inspection.session)
            yield inspection

    def evaluate(self, expression: str, *, symbols: str | Path | None = None) -> Value:
        """Return what a C expression is now, or `Misuse` with GDB's words; as `inspected`.

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

    def words(self, address: int, count: int) -> npt.NDArray[np.uint32]:
        """Return ``count`` instruction words of the running kernel as they are without patches."""
        return self._text.words(address, count)

    @property
    def header(self) -> Header:
        """The component's header in the guest; raise `WrongKernel` for another's, `DeadKernel`."""
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
            raise unpatched.error(self._qemu)
        if header.image_sha256 != self._image.sha256:
            raise wrong_kernel(self._image, self.name, "it was booted from a file with other contents")
        return header
