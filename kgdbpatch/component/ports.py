"""What the client must be told of a CPU, of an OS and of the machine: it knows them by these alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from kgdbpatch.component.layout import BlockEntries, Linear
from kgdbpatch.component.protocol import Command
from kgdbpatch.personality.base import ArenaPlan, Window
from kgdbpatch.vm.ram import Machine, Readable

if TYPE_CHECKING:
    from kgdbpatch.component.uninstall import Before
    from kgdbpatch.image import Image
    from kgdbpatch.isa.decode import Instruction
    from kgdbpatch.isa.msr import KernelSpace
    from kgdbpatch.patch.trap import Hook
    from kgdbpatch.patch.watch import Code, WatchEntry
    from kgdbpatch.personality import base
    from kgdbpatch.vm.registers import GRegisters, Layout

__all__ = [
    "Aside",
    "Cpu",
    "Debugger",
    "Family",
    "Guest",
    "KernelCaller",
    "OrderedCall",
    "Personality",
    "Session",
]


class Session(Protocol):
    """A guest that stands still, its CPUs and its memory; `kgdbpatch.vm.session.Session` is one.

    One of the CPUs is meant by what is said of "the CPU".
    """

    layout: Layout  # of the CPU's registers: which there are
    stays_stopped: bool  # the guest was paused before, and is not to run in between

    @property
    def cpus(self) -> int:
        """How many CPUs the guest has."""

    @property
    def cpu(self) -> int:
        """The number of the one that is meant."""

    def select(self, number: int) -> None:
        """Mean another one from now on."""

    def read_all(self) -> bytes:
        """Return the general registers as one block (see `GRegisters`)."""

    def write_all(self, raw: bytes, *, later: bool = False) -> None:
        """Set them all; ``later``: together with what is asked for next."""

    def register(self, name: str) -> int:
        """Return one register, special ones included."""

    def set_register(self, name: str, value: int, *, later: bool = False) -> None:
        """Set one register, special ones included; ``later`` as for `write_all`."""

    def settable(self, name: str) -> bool:
        """Tell whether `set_register` serves for this register of the CPU."""

    def read(self, address: int, size: int) -> bytes:
        """Return memory as the CPU maps it now; `MemoryFault` where it maps nothing."""

    def read_physical(self, address: int, size: int) -> bytes:
        """Return physical memory."""

    def write_physical(self, address: int, data: bytes, *, later: bool = False) -> None:
        """Write physical memory; ``later`` as for `write_all`."""

    def run_to_physical(self, address: int, deadline: float) -> GRegisters:
        """Let the CPU alone run until its pc is ``address``; return its registers, or `TargetTimeout`."""

    def run_to(self, address: int, deadline: float) -> GRegisters:
        """Let the guest run until a CPU's pc is ``address``, which is meant then; as `run_to_physical`."""

    def run_to_any(self, addresses: Sequence[int], deadline: float) -> GRegisters:
        """As `run_to`, until it is one of ``addresses``."""

    def write(self, address: int, data: bytes) -> None:
        """Write memory as the CPU maps it now."""

    def step(self, count: int = 1, *, later: bool = False) -> None:
        """Let the CPU execute so many instructions; ``later`` as for `write_all`."""

    def resume(self) -> None:
        """Let the guest run until `interrupt`."""

    def interrupt(self) -> None:
        """Stop the guest again."""

    def forget(self) -> None:
        """Ask anew for registers: the guest was changed by others than this session."""


class OrderedCall(NamedTuple):
    """A call of a kernel function: ``gate`` is where it returns to (virtual), ``keeps`` a number to note.

    ``uninterrupted``: interrupts are off meanwhile.
    """

    function: int
    arguments: Sequence[int]
    gate: int
    keeps: int
    uninterrupted: bool = False


class Aside(NamedTuple):
    """A call that is written down in the thread's stack.

    ``below`` is where that ends (virtual): the function's frames lie below it. How far the call is, and its
    result, is told at ``answer`` too, beside the gate's code at ``gate_at``, which is made visible: where the
    call's own code sees them.
    """

    below: int
    answer: int
    gate_at: int


class Debugger(Protocol):
    """What stops the guest; `kgdbpatch.vm.gdb.Debugger` is one."""

    @property
    def pause(self) -> float:
        """Seconds that the last stop took."""

    def stopped(self) -> AbstractContextManager[Session]:
        """Stop the guest, yield a session, let the guest go on, also on errors."""


class Guest(Machine, Protocol):
    """The guest's machine; `kgdbpatch.vm.qemu.Qemu` is one."""

    def savevm(self, tag: str) -> None:
        """Save the machine's whole state under ``tag``."""

    def loadvm(self, tag: str) -> None:
        """Bring a saved state back."""


class Family(Protocol):
    """What a CPU family is registered by (`kgdbpatch.cpu`): it knows its own."""

    def of(self, layout: Layout) -> Cpu | None:
        """Return what serves the CPU with these registers and this PVR; None when it is another family's."""

    def of_model(self, model: str) -> Cpu | None:
        """Return what serves a model as `kgdbpatch.isa.models` names it ("": none in particular), or None."""


class KernelCaller(Protocol):
    """How a thread calls one of the kernel's own functions (component/kernel_calls.py).

    The call is written down in memory, physically as in an arena that begins at ``arena``.
    """

    call_code: bytes  # what such a call begins and ends in, position-independent

    def call_base(self, arena: int) -> int:
        """Return at which address that code finds what is physically at ``arena``."""

    def gate(self, arena: int) -> list[int]:
        """Return the words that a called function returns to, in the kernel's text."""

    def note_call(
        self, session: Session, arena: int, call: OrderedCall, aside: Aside | None = None
    ) -> GRegisters:
        """Write down what the stopped thread is to call, and its registers; return them."""

    def enter_call(self, session: Session, arena: int, saved: GRegisters) -> None:
        """Send the thread to the call that was noted, when the guest runs next.

        Raises `Refused` (rule ``memory``) where the kernel lets nothing be executed there.
        """

    def in_kernel_call(self, registers: GRegisters, arena: int) -> bool:
        """Tell whether the CPU is in the component's part of such a call."""

    def leave_kernel_call(self, session: Session, arena: int) -> None:
        """Let the CPU go on until it has left that."""


class Cpu(KernelCaller, Protocol):
    """A CPU of one family: the component's machine code, how that is called, and what the MMU maps.

    `kgdbpatch.cpu.ppc6xx.Ppc6xx` is one.
    """

    @property
    def name(self) -> str:
        """The family's name."""

    @property
    def model(self) -> str:
        """The model whose instructions the CPU has (`kgdbpatch.isa.models`), "" for the plain ones."""

    @property
    def target(self) -> str:
        """What the compiler calls the CPU (``-mcpu=``)."""

    several: bool  # whether guests with more than one such CPU are served
    restorable: bool  # whether QEMU brings the saved state of such a CPU back
    line: int  # bytes of a cache line, or fewer
    apart: bool  # whether code and data are mapped apart, so that code can be where the kernel shows data
    code: bytes  # the component's, position-independent
    state: np.dtype[np.void]  # what `Op.STATE` stores: the registers that tell what is mapped, and ``dec``

    def check(self, session: Session) -> None:
        """Raise `Refused` (rule ``mapping``) for a CPU, or a state of it, that the component cannot serve."""

    # ---- when it may be lent, and how it is called ---------------------------------------------

    def interruptible(self, msr: int) -> bool:
        """Tell whether interrupts are on, so that no exception's registers are live."""

    def napping(self, msr: int) -> bool:
        """Tell whether the CPU runs nothing before its next interrupt."""

    def leave_exception(self, session: Session) -> None:
        """Let the CPU go on until what an exception saved in registers is dead; or `TargetTimeout`."""

    def call(self, session: Session, arena: int, commands: Sequence[Command]) -> list[int]:
        """Have the component at physical ``arena`` obey; return results, or raise `StubFailed`."""

    def release(self, session: Session, arena: int) -> None:
        """Undo what calls have set up in the CPU so that they can be made; the next one does so anew."""

    def in_call(self, registers: GRegisters, arena: int) -> bool:
        """Tell whether the CPU was left inside a call."""

    def finish_call(self, session: Session, arena: int) -> None:
        """Bring an interrupted call to its end and give the CPU back to the guest."""

    # ---- calls of the kernel before the component has memory (component/borrow.py) ---------------

    def before_memory(self, shift: int) -> KernelCaller:
        """Return what calls a function then, written down in a stack.

        ``shift`` is what addresses of the kernel's linear map are more than physical ones.
        """

    def show_ram(self, session: Session, size: int) -> None:
        """Have the CPU see ``size`` bytes of RAM where such a call's code looks for them.

        Raises `Refused` (rule ``mapping``) where that cannot be, `TargetTimeout` where it cannot be now.
        """

    def hide_ram(self, session: Session, size: int) -> None:
        """Undo that; a component makes anew what it needs of it."""

    # ---- what a stopped CPU and saved contexts say ----------------------------------------------

    kernel_space: KernelSpace  # what the MSR says where the kernel is mapped

    def in_process(self, msr: int) -> bool:
        """Tell whether the CPU runs a process, not the kernel."""

    def translated(self, msr: int) -> bool:
        """Tell whether the CPU fetches instructions through its MMU."""

    def kernel_status(self, words: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
        """Tell which words can be a status register that was saved in the interruptible kernel."""

    # ---- the MMU ------------------------------------------------------------------------------------

    def check_blocks(self, arena: ArenaPlan) -> None:
        """Raise `Refused` (rule ``mapping``) where such an arena cannot be mapped at all."""

    def check_unmapped(self, arena: ArenaPlan, state: np.void, ram: Readable) -> None:
        """Raise `Refused` (rule ``mapping``) when the kernel maps an address that the arena is to take."""

    def merged(self, states: Sequence[np.void]) -> np.void:
        """Return what to ask `free_entries` with for several CPUs: what any of them maps by is taken."""

    def free_entries(
        self, arena: ArenaPlan, state: np.void, *, paged: bool = False
    ) -> tuple[BlockEntries, ...]:
        """Return what maps each block of the arena; raise `Refused` when the kernel leaves too little.

        ``paged``: the kernel's own page tables can map a block, too.
        """

    def make_room(self, arena: ArenaPlan, state: np.void) -> list[Command]:
        """Return the commands without which what `free_entries` names is not free."""

    def shown(self, arena: ArenaPlan, state: np.void) -> Linear:
        """Tell by what the kernel's linear map shows an arena that lies in it; `make_room` leaves that."""

    def mapping(self, arena: ArenaPlan, entries: Sequence[BlockEntries]) -> list[Command]:
        """Return the commands that map the arena and its springboards."""

    def page_table(self, session: Session) -> range:
        """Return the physical addresses of the page table that `mapping` may write to."""

    def unmapping(
        self, arena: ArenaPlan, entries: Sequence[BlockEntries], state: np.void, ram: Readable, before: Before
    ) -> list[Command]:
        """Return the commands that undo `mapping` and `tails_mapping`: to what was ``before``."""

    def tails_mapping(self, arena: ArenaPlan) -> list[Command]:
        """Return the commands that map the vectors' pages into the window for their tails."""

    def remaps(self, instruction: Instruction) -> bool:
        """Tell whether an instruction changes what memory is mapped, a patch's perhaps."""

    def translate(self, state: np.void, ram: Readable, address: int) -> int | None:
        """Return the physical address of a supervisor's data address, or None."""

    def changed_text(self, ram: Readable, arena: int) -> dict[int, int]:
        """Return virtual address ─► the kernel's own word where the component, to run, needs another."""

    # ---- exceptions -----------------------------------------------------------------------------------

    def vectors(self, personality: base.Personality, image: Image) -> tuple[int, ...]:
        """Return the virtual addresses of the exception vectors, those that the image holds."""

    def variables(self, personality: base.Personality, image: Image) -> frozenset[int]:
        """Return the addresses of words among the vectors' code in which that keeps data of its own."""

    def vector_shift(self, personality: base.Personality, image: Image) -> int | None:
        """Return what physical addresses of the vectors are less than virtual ones; None without vectors."""

    def vector_tails(self, personality: base.Personality, image: Image) -> list[Window]:
        """Return the unused bytes behind each vector's code."""

    def gates(self, personality: base.Personality, image: Image, size: int) -> list[int]:
        """Return the virtual addresses in the kernel's text of ``size`` bytes that it leaves unused."""

    def trap_hook(
        self,
        personality: base.Personality,
        image: Image,
        arena: base.ArenaPlan,
        words: Callable[[int, int], npt.NDArray[np.uint32]],
    ) -> Hook | None:
        """Return where the program exception can be hooked, or None.

        The hash table of trapped sites lies in the ``arena``; ``words(address, count)`` gives the running
        kernel's words.
        """

    def check_hook(self, state: np.void, hook: Hook) -> None:
        """Raise `Refused` (rule ``trap``) where a CPU's program exception is not what ``hook`` is for."""

    def hook_words(self, hook: Hook) -> dict[int, int]:
        """Return virtual address ─► word of a hook's code, within its span; the rest of that it may write to.

        Raises `Refused` (rule ``trap``) where it cannot be had.
        """

    def watch_code(self, entry: WatchEntry, tail: int, body: int) -> Code:
        """Return the code that takes traps out as they are hit (patch/watch.py); addresses are physical.

        Raises `Refused` (rule ``trap``) where the family has none.
        """


class Personality(Protocol):
    """The running kernel's OS, as the client needs it."""

    def to_physical(self, address: int) -> int | None:
        """Return the physical address of wired kernel memory, a module's code included, or None."""

    def mapped(self, address: int) -> int | None:
        """Return where the kernel's own page tables map an address, whatever the MMU has of them; or None."""

    def loaded(self) -> frozenset[base.ModuleId]:
        """Return the modules that the kernel has now."""

    def may_resume(self, contexts: Iterable[tuple[int, int]], registers: GRegisters) -> list[int]:
        """Return the pcs of those interrupted contexts (physical address, pc) that a thread may come back to.

        The guest stands still, with the CPU's ``registers``.
        """

    def may_return(self, words: Iterable[tuple[int, int]], cpus: Sequence[GRegisters]) -> list[int]:
        """Return those words (physical address, word) that threads may return to, no leftovers of calls.

        The guest stands still, its ``cpus`` being as they are.
        """
