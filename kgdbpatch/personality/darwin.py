"""Darwin for PowerPC (Mach-O): kernel and stacks mapped one-to-one, and a syslog of dated lines."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from kgdbpatch.personality.base import (
    MIB,
    LogLine,
    Personality,
    SavedContext,
    Thread,
    ThreadDetail,
    Vitals,
    Window,
)

if TYPE_CHECKING:
    from kgdbpatch.image import Image

__all__ = ["Darwin"]

_LOG_LINE = re.compile(
    r"(?P<time>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d) (?P<host>\S+) (?P<source>[^\s:]+): (?P<message>.*)"
)
_THREAD = struct.Struct(">8x3I36x2I")  # of images/darwin/include/kern.h: sp stack_low stack_high name next
_DETAIL = struct.Struct(">20xI20xI20xI")  # of the same: state id task
_STATES = ("idle", "runnable", "waiting", "halted")
_PID = 8  # of images/darwin/include/task.h: struct task
_ACTIVE = 24  # of images/darwin/include/ppc.h: struct per_proc_info
_MOST_THREADS = 4096
_SCHEDULER = ("_switch_context", "_thread_block", "_tsleep", "_delay_ticks")
_ABOVE_XNU = 0xF000_0000
_NAME = 32  # bytes of a thread's name


class Darwin(Personality):
    """A Darwin/PPC kernel in low memory.

    The arena lies where its physical addresses are, behind the announced memory: out of branch reach of
    the text, so a patch goes through a springboard in virtual page 1, which the kernel leaves unmapped.

    Mac OS X's own kernel (xnu) is told by a function of its mappings.c. It keeps account of
    each entry of the hash table (osfmk/ppc/hw_vm.s), so none is put in behind its back: what it never maps is
    mapped by BATs alone. Its memory lies anywhere below 0xe0000000 (osfmk/mach/ppc/vm_param.h; 0x3fffffff
    before 10.3), another process's is seen at 0xe0000000. None of this was tried on one.
    """

    name = "darwin"
    kernel_format = "mach-o"
    panic = r"^panic\(cpu \d+\)"
    untranslated_sections = frozenset({"__VECTORS,__interrupts"})
    time_of_day = r"\d+:\d+:\d+"
    log_functions = ("printf", "kprintf")
    context = SavedContext(lr=140, first=64)

    @staticmethod
    def _is_xnu(image: Image) -> bool:
        return bool(image.symbols.called("_mapping_prealloc"))

    @classmethod
    def recognises(cls, image: Image) -> bool:
        """Tell whether the file is Mach-O."""
        return image.format == "mach-o"

    def parse_log(self, line: str) -> LogLine | None:
        """Parse ``Nov 23 05:36:05 host mach_kernel: message``."""
        match = _LOG_LINE.fullmatch(line.rstrip("\r\n"))
        return match and LogLine(match["time"], match["source"], match["message"])

    def log_seconds(self, time: str) -> float | None:
        """Return the seconds of ``Nov 23 05:36:05`` in its year, of ``05:36:05`` in its day."""
        for form in ("%Y %b %d %H:%M:%S", "%Y %H:%M:%S"):
            with suppress(ValueError):
                found = datetime.strptime(f"2000 {time}", form).replace(tzinfo=UTC)
                return (found - datetime(2000, 1, 1, tzinfo=UTC)).total_seconds()
        return None

    def vitals(self, image: Image) -> Vitals:
        """Return the count of changes of threads."""
        found = (symbol.address for symbol in image.symbols.called("_context_switches"))
        places = (self.to_physical(image, address) for address in found)
        return Vitals((), tuple(place for place in places if place is not None))

    def current_thread(
        self, image: Image, has: Callable[[str], bool], read: Callable[[int, int], bytes | None]
    ) -> Mapping[str, tuple[str, str, tuple[str, ...]]]:
        """Return C that tells of the running thread, where the kernel keeps it as `images/darwin` does."""
        if not (has("per_proc_info") and has("thread")):
            return {}
        thread = "((struct per_proc_info *)per_proc_info)->active_thread"
        where = ("per_proc_info",)
        return {
            "curtask": (thread, "address", where),
            "comm": (f"((struct thread *){thread})->name", "name", where),
            "tid": (f"((struct thread *){thread})->id", "word", where),
        }

    def to_physical(self, image: Image, address: int) -> int | None:
        """Return ``address`` itself within the image, which is wired one-to-one; None elsewhere."""
        loaded = (segment for segment in image.segments if segment.name != "__LINKEDIT")
        return address if any(address in segment for segment in loaded) else None

    def stack_physical(self, image: Image, address: int) -> int | None:
        """Return ``address`` itself: kernel stacks and what the kernel allocates are mapped one-to-one.

        None of xnu's, which are mapped page by page.
        """
        return address if address < self.memory.announced * MIB and not self._is_xnu(image) else None

    def stack_size(self, image: Image) -> int:
        """Return what the kernel's own symbol says, else what xnu has: 16 KiB."""
        known = image.symbols.called("_kernel_stack_size")
        return known[0].address if known else 0x4000

    def threads(self, image: Image, read: Callable[[int, int], bytes | None]) -> Iterator[Thread]:
        """Yield the threads on the bundled kernel's list; none of a kernel that has no such list."""
        head = image.symbols.called("_all_threads")
        link = read(head[0].address, 4) if head else None
        for _ in range(_MOST_THREADS):
            at = int.from_bytes(link or b"", "big")
            held = read(at, _THREAD.size) if at else None
            if held is None:
                return
            sp, low, high, text, after = _THREAD.unpack(held)
            name = (read(text, _NAME) or b"").split(b"\0")[0].decode(errors="replace")
            yield Thread(name, Window(low, high), sp, at)
            link = after.to_bytes(4, "big")

    def thread_details(
        self, image: Image, read: Callable[[int, int], bytes | None], threads: Sequence[Thread]
    ) -> Sequence[ThreadDetail]:
        """Return number, process and state of the bundled kernel's threads."""
        found = []
        for thread in threads:
            held = read(thread.address, _DETAIL.size)
            state, number, task = _DETAIL.unpack(held) if held else (len(_STATES), None, 0)
            process = read(task + _PID, 4) if task else None
            pid = None if process is None else int.from_bytes(process, "big")
            found.append(ThreadDetail(number, pid, _STATES[state] if state < len(_STATES) else ""))
        return found

    def thread_on(
        self,
        image: Image,
        read: Callable[[int, int], bytes | None],
        threads: Sequence[Thread],
        register: Callable[[str], int],
    ) -> Thread | None:
        """Return the thread that the bundled kernel notes as active, by SPRG0."""
        held = read(register("sprg0") + _ACTIVE, 4) if threads else None
        at = int.from_bytes(held or b"", "big")
        return next((thread for thread in threads if thread.address == at), None)

    def scheduler(self, image: Image) -> Sequence[Window]:
        """Return the functions that change threads."""
        named = [symbol for name in _SCHEDULER for symbol in image.symbols.called(name)]
        around = filter(None, (image.function_at(symbol.address) for symbol in named))
        return [Window(one.address, one.end) for one in around]

    def used_memory(self, image: Image, read: Callable[[int, int], bytes]) -> int | None:
        """Return the kernel's ``mem_size``, which ``maxmem`` limits; None without that symbol."""
        known = image.symbols.called("_mem_size")
        at = self.to_physical(image, known[0].address) if known else None
        return None if at is None else int.from_bytes(read(at, 4), "big")

    def system_call_entries(self, image: Image) -> Sequence[Window]:
        """Return the C entry of BSD's system calls: processes come to it with interrupts on, nothing held."""
        known = image.symbols.called("_unix_syscall")
        around = image.function_at(known[0].address) if known else None
        return () if around is None else (Window(known[0].address, around.end),)

    def arena_virtual(self, image: Image) -> int:
        """Return the arena's own physical address: the kernel maps nothing at 256 to 336 MiB."""
        return _ABOVE_XNU if self._is_xnu(image) else self.memory.announced * MIB

    def springboard_window(self, image: Image) -> Window | None:
        """Return page 1: unmapped, like page 0, so that null pointers are caught (paper, 3.3.4)."""
        return None if self._is_xnu(image) else Window(0x1000, 0x2000)

    def near_window(self, image: Image) -> Window:
        """Return the topmost 16 MiB, which the kernel maps nowhere: for patches without a springboard."""
        return Window(0xFF00_0000, 1 << 32)

    def tail_window(self, image: Image) -> Window | None:
        """Return two pages of the topmost 32 MiB for physical pages 0 and 1 (paper, 3.3.4).

        The paper maps the vectors where they lie. Seen from here, the null page stays unmapped and
        goes on catching null pointers.
        """
        return None if self._is_xnu(image) else Window(0xFE00_0000, 0xFE00_2000)
