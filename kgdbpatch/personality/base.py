"""What an operating system is to us: where its memory lies, its threads, its log, what it changes itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

from kgdbpatch.errors import BadImage
from kgdbpatch.personality.memory_plan import MIB, ArenaPlan, MemoryPlan, Window
from kgdbpatch.personality.stacks import (
    Memory,
    PageTables,
    SavedContext,
    Thread,
    ThreadDetail,
    Threaded,
    below_sleepers,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from kgdbpatch.image import Image
    from kgdbpatch.image.loaded import ModuleImage
    from kgdbpatch.patch.rewritten import Rewritten

__all__ = [
    "MIB",
    "ArenaPlan",
    "KernelCall",
    "LogLine",
    "Memory",
    "MemoryPlan",
    "Module",
    "ModuleId",
    "Modules",
    "PageTables",
    "Pager",
    "Personality",
    "SavedContext",
    "Thread",
    "ThreadDetail",
    "Vitals",
    "Window",
    "below_sleepers",
]


class LogLine(NamedTuple):
    """One syslog line: ``time`` as the guest printed it, the ``source`` and the ``message``."""

    time: str
    source: str
    message: str


class KernelCall(NamedTuple):
    """A call of one of the kernel's own functions: its address, and what it is given."""

    function: int
    arguments: tuple[int, ...] = ()


class Pager(Protocol):
    """Fills a running kernel's own page tables, with pages that are mapped as the kernel's own are."""

    def sample(self) -> KernelCall:
        """Return the call that allocates a page, to see how the kernel maps it."""

    def free(self, page: int) -> KernelCall:
        """Return the call that frees it."""

    def tables(self, window: Window) -> Sequence[KernelCall]:
        """Return the calls that have the kernel allocate the page tables that it lacks for a window."""

    def entries(
        self, window: Window, physical: int, page: int, *, executed: bool = False
    ) -> list[tuple[int, bytes]]:
        """Return what to write where (physical) so that a window shows memory from ``physical`` on.

        It is mapped as ``page`` is, for code too if that is ``executed`` there. Empty where that cannot be
        done.
        """


class Module(NamedTuple):
    """A module that a running kernel has loaded: its name, where its code is, which pages that takes.

    ``frames`` is the CRC-32 of the pages' physical addresses. ``live`` ones are neither about to be loaded
    nor to be unloaded. ``handle`` is the address of its structure.
    """

    name: str
    code: Window
    frames: int
    live: bool
    handle: int = 0

    @property
    def id(self) -> ModuleId:
        """What tells it from others, and from itself when it was loaded another time."""
        return self.name, self.code.start, self.code.end, self.frames


ModuleId = tuple[str, int, int, int]  # name, start and end of the code, frames


class Modules(Protocol):
    """Finds what a running kernel has loaded, in its memory; the guest need not stand still."""

    def physical(self, address: int) -> int | None:
        """Return where the memory at an address of the kernel's is, None where there is none."""

    def loaded(self) -> Sequence[Module]:
        """Return the modules that have code; raise `BadImage` for a damaged list."""

    def image(self, module: Module, words: Callable[[int, int], npt.NDArray[np.uint32]]) -> ModuleImage:
        """Return a module's code, data and symbols; ``words(address, count)`` reads its code.

        Raises `BadImage` when it is loaded no more.
        """


_FORMATS = {"mach-o": "Mach-O", "elf": "ELF", "raw": "a raw binary"}


@dataclass(frozen=True, slots=True)
class Vitals:
    """Words of a kernel's memory that tell how it is; physical addresses, as far as they are known.

    Each of ``ticks`` goes on with the clock, each of ``switches`` with changes of threads. Where r2
    holds the current thread, ``idle`` is the (virtual) stack of the idle one. The word at ``panic`` is
    ``no_panic`` until the kernel has given itself up.
    """

    ticks: tuple[int, ...] = ()
    switches: tuple[int, ...] = ()
    idle: tuple[int, int] | None = None
    panic: int | None = None
    no_panic: int = 0


class Personality(Threaded, ABC):
    """An operating system as a guest's kernel: what is known of it, by its image and by its memory."""

    name: ClassVar[str]
    kernel_format: ClassVar[str]  # of the kernel's file: "mach-o" or "elf"
    panic: str  # regex on a console line: the kernel is dead
    oops: str = r"(?!)"  # regex on a console line: a fault in the kernel, which may go on
    complaint: ClassVar[str] = r"(?!)"  # regex on a console line: the kernel found something wrong with it
    untranslated_sections: ClassVar[frozenset[str]]  # names of sections with exception vectors
    vectors_executable: ClassVar[bool] = False  # the kernel's own mapping of its text holds them, too
    time_of_day: ClassVar[str] = r"(?!)"  # regex on a time of `log_seconds` that names no day
    log_functions: ClassVar[tuple[str, ...]] = ()  # names of a function like printf that prints to the log
    constant_between: ClassVar[tuple[str, ...]] = ()  # symbols at the ends of what is written at boot alone
    told: ClassVar[frozenset[str]] = frozenset()  # regexes of a recipe that `__init__` takes, by name

    def __init__(self, memory: MemoryPlan | None = None, **lines: str) -> None:
        self.memory = memory or MemoryPlan()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.memory})"

    @classmethod
    def recognises(cls, image: Image) -> bool:
        """Tell whether a kernel's file looks like one of this system: by its format, tables and symbols."""
        return False

    def checked(self, image: Image) -> Image:
        """Return a kernel's image; raise `BadImage` for one that no guest of this kind runs."""
        ours, theirs = (_FORMATS[kind] for kind in (self.kernel_format, image.format))
        if (ours == "Mach-O") != (theirs == "Mach-O"):
            raise BadImage(image.path, f"this is {theirs}; a '{self.name}' guest runs kernels in {ours}")
        return image

    @abstractmethod
    def parse_log(self, line: str) -> LogLine | None:
        """Parse one console line, or None when it is no syslog line."""

    def parse_untimed(self, line: str) -> LogLine | None:
        """Parse one console line of a guest none of whose lines is as `parse_log` wants it; or None."""
        return None

    def log_seconds(self, time: str) -> float | None:
        """Return a line's time in seconds, to compare with others of the same boot; None if it is no time."""
        try:
            return float(time)
        except ValueError:
            return None

    def log_function(self, image: Image) -> str | None:
        """Return the name of a function like printf that prints to the kernel's log, or None."""
        return next(filter(image.knows, self.log_functions), None)

    def vitals(self, image: Image) -> Vitals:
        """Return where the kernel's memory tells how it is."""
        return Vitals()

    def current_thread(
        self, image: Image, has: Callable[[str], bool], read: Callable[[int, int], bytes | None]
    ) -> Mapping[str, tuple[str, str, tuple[str, ...]]]:
        """Return C of the running thread: ``comm`` (name), ``pid``, ``tid``, ``curtask``, ``stack``.

        ``has(name)`` tells whether the kernel has a structure of that name, defined where that C is compiled.
        Each is (text, ``word`` for a number or ``name`` for a string, the names of the kernel's in it).
        """
        return {}

    @abstractmethod
    def to_physical(self, image: Image, address: int) -> int | None:
        """Return the physical address of wired kernel memory, or None when not wired."""

    def stack_physical(self, image: Image, address: int) -> int | None:
        """Return the physical address of memory that kernel stacks and threads can be in, or None."""
        return self.to_physical(image, address)

    def page_tables(self, image: Image, read: Callable[[int, int], bytes]) -> PageTables | None:
        """Return what else kernel stacks can be in, mapped page by page; None where that is not known.

        ``read`` as for `arena_conflict`.
        """
        return None

    def stack_size(self, image: Image) -> int:
        """Return the size of a kernel stack in bytes; the least that any kernel has where it is not known."""
        return 0x2000

    def threads(self, image: Image, read: Callable[[int, int], bytes | None]) -> Iterable[Thread]:
        """Return the kernel's threads, as far as they can be found; ``read`` reads its memory."""
        return ()

    def may_resume(self, image: Image, memory: Memory, place: int, sp: int | None) -> bool:
        """Tell whether a thread may come back to the interrupted context whose pc stands at ``place``.

        ``sp`` as for `below_sleepers`.
        """
        dead = below_sleepers(self.threads(image, memory.read), sp)
        return not any(window.start <= place < window.end for window in dead)

    @abstractmethod
    def arena_virtual(self, image: Image) -> int:
        """Return the virtual address at which the arena is to be mapped."""

    def springboard_window(self, image: Image) -> Window | None:
        """Return a never-mapped page window reachable by ``ba``, or None when none is needed."""
        return None

    def near_window(self, image: Image) -> Window | None:
        """Return a window of BAT-block size within reach of ``ba`` that the kernel never maps, or None."""
        return None

    def tail_window(self, image: Image) -> Window | None:
        """Return pages within reach of ``ba`` that the kernel never maps, as many as its vectors take.

        Springboards in the vectors' unused tails are entered there. None: not on this kernel.
        """
        return None

    def arena(self, image: Image) -> ArenaPlan:
        """Return the arena of a guest with this memory plan."""
        return ArenaPlan(
            physical=self.memory.arena_at,
            size=self.memory.arena_size,
            virtual=self.arena_virtual(image),
            springboards=self.springboard_window(image),
            near=self.near_window(image),
            tails=self.tail_window(image),
        )

    def arenas(self, image: Image) -> Iterable[ArenaPlan]:
        """Return the places that will do for an arena, the best one first."""
        return (self.arena(image),)

    def used_memory(self, image: Image, read: Callable[[int, int], bytes]) -> int | None:
        """Return how many bytes of RAM, from address 0 on, the running kernel takes to be its own; or None.

        By its own variables, ``read(physical, size)``: what lies beyond is memory that it never uses.
        """
        return None

    def arena_conflict(
        self,
        image: Image,
        read: Callable[[int, int], bytes],
        plan: ArenaPlan | None = None,
        kept: Sequence[Window] = (),
    ) -> str | None:
        """Return why the running kernel itself uses the addresses of an arena, or None.

        ``read(physical, size)`` reads guest memory. ``plan`` is the arena where it is not `arena`; what
        the kernel keeps for it already is ``kept``.
        """
        return None

    def pager(self, image: Image, read: Callable[[int, int], bytes]) -> Pager | None:
        """Return what fills the kernel's own page tables, for want of BATs; None where that is not known."""
        return None

    def modules(self, image: Image, read: Callable[[int, int], bytes]) -> Modules | None:
        """Return what finds the kernel's modules; None where it has none, or nothing is known of them.

        ``read`` as for `arena_conflict`.
        """
        return None

    # ---- calls of the kernel's own functions -------------------------------------------------

    def system_call_entries(self, image: Image) -> Sequence[Window]:
        """Return code that threads run for a process with nothing held, from its start on; none if unknown.

        Where interrupts are on in it, a thread may call any of the kernel's functions.
        """
        return ()

    def maps_later(self, image: Image) -> bool:
        """Tell whether the kernel may come to map the arena's addresses unless it keeps them for us."""
        return False

    def must_keep(self, image: Image, plan: ArenaPlan) -> bool:
        """Tell whether an arena's addresses are the kernel's to give: it must keep them for us, or none."""
        return False

    def keep(self, image: Image, window: Window) -> KernelCall | None:
        """Return the call by which the kernel keeps addresses for us; its value is 0 if they are taken.

        None where there is no such call.
        """
        return None

    def give_back(self, image: Image, handle: int) -> KernelCall | None:
        """Return the call that ends what `keep` began; what is mapped there is unmapped."""
        return None

    def allocation(self, image: Image, size: int) -> KernelCall | None:
        """Return the call that allocates ``size`` bytes (a power of two) in one piece, wired; or None.

        Its value is where the kernel's linear map shows them, a multiple of ``size``, or 0.
        """
        return None

    def freeing(self, image: Image, address: int, size: int) -> KernelCall | None:
        """Return the call that frees what `allocation` gave."""
        return None

    def fault_sites(self, image: Image) -> frozenset[int]:
        """Return addresses whose faults the kernel resolves by looking the address up in a table."""
        return frozenset()

    def exceptional_edges(self, image: Image) -> Mapping[int, Sequence[int]] | None:
        """Return where control goes on when an instruction faults (fix-ups), by address; None: not known."""
        return None

    def rewritten_edges(self, image: Image) -> Mapping[int, Sequence[int]]:
        """Return where control may go from words that the kernel itself rewrites, in any of their forms."""
        return {}

    def rewritten_reads(self, image: Image) -> Mapping[int, int]:
        """Return which registers (a mask) words may read when the kernel has rewritten them, by address."""
        return {}

    def looked_up(self, image: Image) -> Sequence[Window]:
        """Return data that names places in the code for the kernel to find, not to branch to."""
        return ()

    def rewritten(self, image: Image) -> Mapping[int, Rewritten]:
        """Return the words of code that the kernel itself may rewrite while it runs, by address."""
        return {}

    def is_probed(self, image: Image, read: Callable[[int, int], bytes], address: int, word: int) -> bool:
        """Tell whether a word of the running text is there for a probe of the kernel's own.

        ``read`` as for `arena_conflict`.
        """
        return False

    def is_probes_word(self, image: Image, address: int, word: int) -> bool:
        """Tell whether a word is what the kernel writes at an address for a probe of its own."""
        return False

    def discarded(self, image: Image) -> Sequence[Window]:
        """Return ranges of the image that the kernel gives up after boot (their memory is reused)."""
        return ()

    def constants(self, image: Image) -> Sequence[Window]:
        """Return ranges of the image that nobody writes to after boot, whatever its sections say."""
        ends = image.symbols.last(self.constant_between)
        return [Window(*sorted(one.address for one in ends.values()))] if len(ends) == 2 else []
