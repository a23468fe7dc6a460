"""Linux for 32-bit PowerPC (ELF, SysV ABI): its linear map, threads, log, and what it rewrites."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from kgdbpatch.personality.base import (
    MIB,
    ArenaPlan,
    KernelCall,
    LogLine,
    Memory,
    Modules,
    Pager,
    PageTables,
    Thread,
    Vitals,
    Window,
)
from kgdbpatch.personality.linux.arenas import LEAST_NEAR, NEAR, REACH, SLOTS, arenas_above
from kgdbpatch.personality.linux.configuration import (
    PAGE_SHIFT,
    entries_are_small,
    kernel_option,
    linear_offset,
    lowmem,
    order,
    processes_end,
)
from kgdbpatch.personality.linux.pages import LinuxPager, first_mapped
from kgdbpatch.personality.linux.tables import address_of, exception_table, init_memory
from kgdbpatch.personality.linux.thread_details import LinuxThreads
from kgdbpatch.personality.linux.threads import (
    STACK,
    Current,
    Read,
    current,
    kernel_layout,
    kernel_threads,
    may_resume,
)

if TYPE_CHECKING:
    from kgdbpatch.image import Image
    from kgdbpatch.patch.rewritten import Rewritten
    from kgdbpatch.personality.linux.memory import KernelMemory

__all__ = ["Linux"]

_INIT = "init: "
_LOG_LINE = re.compile(r"\[ *(?P<time>\d+\.\d{6})\] (?:(?P<source>init): )?(?P<message>.*)")
_KNOWN_BY = ("linux_banner", "__start___ex_table")
_INTERRUPT_STACKS = ("hardirq_ctx", "softirq_ctx")
_HUGE_PAGES = "book3e_hugetlb_preload"
_STACK_SYMBOLS = ("init_task", "init_stack", *_INTERRUPT_STACKS)
_VITAL = ("jiffies", "panic_cpu", "init_stack")
_LARGEST_STACK = 0x4000  # bytes (THREAD_SIZE)
_ENTRIES = ("system_call_exception", "DoSyscall")
_ALLOCATORS = ("module_alloc", "execmem_alloc")
_KEEPERS = ("__get_vm_area_caller", "__get_vm_area")  # the former is told who asks
_GIVER = "free_vm_area"
_PAGES, _FREE_PAGES = ("__get_free_pages", "get_free_pages_noprof"), "free_pages"
_IOREMAP, _NO_GUARD = 0x1, 0x40  # of vm_struct's flags; the page behind is ours or another's


class Linux(LinuxThreads):
    """Linux with a linear map from the ELF file's program headers (tried: 5.10, 6.1, 6.12)."""

    name = "linux"
    constant_between = ("__start_rodata", "__end_rodata")
    kernel_format = "elf"
    panic = r"Kernel panic - not syncing"
    oops = r"\bOops: |kernel BUG at|Unable to handle kernel|Kernel attempted to "
    complaint = r"\bBUG: |rcu: INFO: .*\bstall"
    untranslated_sections = frozenset({".head.text"})
    vectors_executable = True
    log_functions = ("_printk", "printk")  # the former since 5.15
    handlers = ("do_IRQ", "timer_interrupt", "do_page_fault", "DoorbellException", "doorbell_exception")

    @classmethod
    def recognises(cls, image: Image) -> bool:
        """Tell whether the file has Linux's exception table or banner."""
        named = any(section.name == "__ex_table" for section in image.sections)
        return named or bool(image.symbols.last(_KNOWN_BY))

    def parse_log(self, line: str) -> LogLine | None:
        """Parse ``[    1.234567] message``; the source is ``kernel``, or ``init`` for init's own lines."""
        match = _LOG_LINE.fullmatch(line.rstrip("\r\n"))
        if match is None:
            return None
        return LogLine(match["time"], match["source"] or "kernel", match["message"])

    def parse_untimed(self, line: str) -> LogLine | None:
        """Parse a line of a kernel that prints no times (CONFIG_PRINTK_TIME): any may be its own."""
        message = line.rstrip("\r\n")
        told = message.removeprefix(_INIT)
        source = "kernel" if told == message else "init"
        return LogLine("", source, told) if told else None

    def vitals(self, image: Image) -> Vitals:
        """Return the clock's ticks, the idle thread, and the CPU that panicked (-1 as long as none has)."""
        known = {name: symbol.address for name, symbol in image.symbols.last(_VITAL).items()}
        places = {name: self.to_physical(image, address) for name, address in known.items()}
        ticks, panic = places.get("jiffies"), places.get("panic_cpu")
        stack = known.get("init_stack")
        idle = None if stack is None else (stack, stack + _LARGEST_STACK)
        return Vitals(() if ticks is None else (ticks,), (), idle, panic, 0xFFFF_FFFF)

    def current_thread(self, image: Image, has: Callable[[str], bool], read: Read) -> Current:
        """Return C that tells of the running thread, which r2 names."""
        return current(kernel_layout(image, read), typed=has("task_struct"))

    def to_physical(self, image: Image, address: int) -> int | None:
        """Return the physical address of ``address`` in the linear map of the announced memory, or None."""
        physical = address - linear_offset(image)
        return physical if 0 <= physical < self._linear_size(image) else None

    def _linear_size(self, image: Image) -> int:
        return min(self.memory.announced * MIB, lowmem(image))

    def stack_size(self, image: Image) -> int:
        """Return what the kernel's configuration says, else the distance of the first stack's ends."""
        shift = kernel_option(image, "THREAD_SHIFT")
        if shift is not None:
            return 1 << int(shift)
        ends = ("init_stack", "__end_init_stack", "__end_init_task")
        known = {name: symbol.address for name, symbol in image.symbols.last(ends).items()}
        end = known.get("__end_init_stack", known.get("__end_init_task", 0))
        size = end - known.get("init_stack", end)
        return size if size >= super().stack_size(image) else super().stack_size(image)

    def threads(self, image: Image, read: Callable[[int, int], bytes | None]) -> Iterator[Thread]:
        """Yield all processes' and the kernel's threads; none when ``init_task`` cannot be understood."""
        yield from kernel_threads(image, read)

    def may_resume(self, image: Image, memory: Memory, place: int, sp: int | None) -> bool:
        """Tell whether ``place`` is in a live part of a thread's or an interrupt's stack."""
        known = image.symbols.last(_STACK_SYMBOLS)
        if len(known) < len(_STACK_SYMBOLS):
            return True
        layout = kernel_layout(image, memory.read)
        interrupts = [memory.read(known[name].address, 4) for name in _INTERRUPT_STACKS]
        if layout is None or None in interrupts or not self._stacks_are_found(image, memory):
            return True
        starts = [int.from_bytes(start or b"", "big") for start in interrupts]
        return may_resume(memory, layout, starts, place, sp)

    def _stacks_are_found(self, image: Image, memory: Memory) -> bool:
        """Tell whether all kernel stacks are where they are looked for, each as large as is thought.

        With CONFIG_VMAP_STACK they are mapped page by page, else they lie in the linear map.
        """
        if self.stack_size(image) != STACK:
            return False
        if self._small_directory(image) is not None:
            return True
        if kernel_option(image, "VMAP_STACK") == "y":
            return False
        if kernel_option(image, "TASK_SIZE") is not None:
            return True  # the kernel carries its configuration, and has not this option
        return sum(1 for _ in self.threads(image, memory.read)) > 1  # others than the first are found there

    def _small_directory(self, image: Image) -> int | None:
        """Return where the kernel's page directory is, when its entries are known to have 32 bits."""
        return self._directory(image) if entries_are_small(image) else None

    def _directory(self, image: Image) -> int | None:
        at = address_of(image, "swapper_pg_dir")
        return None if at is None else self.to_physical(image, at)

    def page_tables(self, image: Image, read: Callable[[int, int], bytes]) -> PageTables | None:
        """Return what the kernel's page directory maps, where stacks are with CONFIG_VMAP_STACK."""
        directory = self._small_directory(image)
        return None if directory is None else self._memory(image, read, directory)

    def _memory(self, image: Image, read: Callable[[int, int], bytes], directory: int) -> KernelMemory:
        from kgdbpatch.personality.linux.memory import KernelMemory

        return KernelMemory(read, directory, linear_offset(image), self._linear_size(image))

    def arena_virtual(self, image: Image) -> int:
        """Return the first block above every process: kernels put modules near their text, not here.

        What the kernel's allocator gave can be used in the linear map.
        """
        if self.memory.linear:
            return linear_offset(image) + self.memory.borrowed_at
        size = self.memory.arena_size
        return -(-(processes_end(image) or 0xB000_0000) // size) * size

    def near_window(self, image: Image) -> Window:
        """Return the 16 MiB below the linear map, half of a small arena: within reach of all the text."""
        size = min(NEAR, self.memory.arena_size // 2 or NEAR)
        return Window(linear_offset(image) - size, linear_offset(image))

    def arena(self, image: Image) -> ArenaPlan:
        """Return the arena; the linear map may show what the kernel's allocator gave."""
        return replace(super().arena(image), linear=self.memory.linear)

    def used_memory(self, image: Image, read: Callable[[int, int], bytes]) -> int | None:
        """Return the end of the last page frame that the kernel knows (``max_pfn``), or None."""
        at = self.to_physical(image, address_of(image, "max_pfn") or 0)
        return None if at is None else int.from_bytes(read(at, 4), "big") << PAGE_SHIFT

    def arenas(self, image: Image) -> Iterator[ArenaPlan]:
        """Yield the usual arena, then others: with a smaller near window, elsewhere above all processes."""
        usual = self.arena(image)
        base = linear_offset(image)
        text = max((section.end for section in image.code_sections()), default=base)
        blocks = range(usual.virtual, base - usual.size + 1, usual.size)
        if usual.linear:
            blocks = range(usual.virtual, usual.virtual + 1)
        most = min(NEAR, usual.size // 2)
        sizes = [most >> shift for shift in range(5) if most >> shift >= LEAST_NEAR]
        nears = [Window(at, at + size) for size in sizes for at in range(base - size, text - REACH, -size)]
        for near in [*([] if usual.near in nears else [usual.near]), *nears]:
            for virtual in blocks:
                if near is None or usual.linear or virtual + usual.size <= near.start:
                    yield replace(usual, virtual=virtual, near=near)
        software = any(kernel_option(image, name) == "y" for name in ("BOOKE", "40x"))  # fills the TLB
        if (usual.linear or not blocks) and software:  # processes reach up to the linear map
            yield from arenas_above(usual, base + self.memory.announced * MIB)

    def arena_conflict(
        self,
        image: Image,
        read: Callable[[int, int], bytes],
        plan: ArenaPlan | None = None,
        kept: Sequence[Window] = (),
    ) -> str | None:
        """Return why an arena's addresses are in use: by processes, modules, I/O, the linear map."""
        plan = plan or self.arena(image)
        windows = [] if plan.linear else [Window(plan.virtual, plan.virtual + plan.size)]
        windows += [plan.near] if plan.near else []
        where = self._within_others(image, read, windows)
        if where is not None:
            return where
        if address_of(image, _HUGE_PAGES) is not None:
            return "the kernel takes the CPU's wired TLB entries in turns, for huge pages (CONFIG_HUGETLBFS)"
        directory = self._directory(image)
        if directory is None:
            return "where the kernel's page directory is is not known (swapper_pg_dir, in its linear map)"
        exactly = self.keep(image, windows[0]) is not None  # what grows can be told not to grow there
        wide = entries_are_small(image) is False
        ours = self.pager(image, read) is not None  # there may be tables that it was asked for before
        for window in windows:
            if window in kept:
                continue
            surely = exactly and window.start < (1 << 32) - (SLOTS if ours else REACH)
            at = first_mapped(read, directory, linear_offset(image), window, exactly=surely, wide=wide)
            if at is not None and exactly:
                return f"the kernel has mapped 0x{at:08x} (modules lie there)"
            if at is not None:
                return f"the kernel has a page table for 0x{at:08x} (modules grow there)"
        return None

    def _within_others(
        self, image: Image, read: Callable[[int, int], bytes], windows: Sequence[Window]
    ) -> str | None:
        """Return why windows are not above all processes and below the linear map, or None.

        Nor may the kernel use more memory than it was told of.
        """
        base, announced = linear_offset(image), self.memory.announced * MIB
        end = processes_end(image)
        if end is None:
            return "where processes end is not known: the kernel carries no configuration (CONFIG_IKCONFIG)"
        if end > min(window.start for window in windows):
            return f"processes reach up to {end:#x} (CONFIG_TASK_SIZE)"
        used = self.used_memory(image, read)
        if used is None:
            return "how much memory the kernel uses is not known: it has no symbol max_pfn"
        if used > announced:
            return f"the kernel uses {used:#x} bytes of memory, not {announced:#x} as told (mem=)"
        for window in windows:
            if window.start < base + announced and base < window.end:
                return f"0x{max(window.start, base):08x} is in the kernel's linear map"
        return None

    def pager(self, image: Image, read: Callable[[int, int], bytes]) -> Pager | None:
        """Return what fills the kernel's own page tables; None with entries of 64 bits."""
        directory = self._small_directory(image)
        return None if directory is None else LinuxPager.of(image, read, directory, linear_offset(image))

    def modules(self, image: Image, read: Callable[[int, int], bytes]) -> Modules | None:
        """Return what finds modules: by the kernel's list of them and its page tables, of 32-bit entries."""
        from kgdbpatch.personality.linux.modules import LinuxModules

        directory = self._directory(image)
        if directory is None or address_of(image, "modules") is None:
            return None
        memory = self._memory(image, read, directory)
        return LinuxModules(image, memory, lambda: self._small_directory(image) is not None)

    def system_call_entries(self, image: Image) -> Sequence[Window]:
        """Return the C entry of system calls, or what led to them before there was one.

        Every system call comes through it, before it is known which one it is.
        """
        at = address_of(image, *_ENTRIES)
        around = None if at is None else image.function_at(at)
        return () if at is None or around is None else (Window(at, around.end),)

    def maps_later(self, image: Image) -> bool:
        """Tell whether the kernel loads modules, or makes code in other ways, and maps it near its own."""
        if address_of(image, *_ALLOCATORS) is not None:
            return True
        return not self.memory.linear and self.arena_virtual(image) >= linear_offset(image)

    def must_keep(self, image: Image, plan: ArenaPlan) -> bool:
        """Tell whether an arena lies where the kernel maps memory and devices as they come."""
        return (plan.near.start if plan.linear and plan.near else plan.virtual) >= linear_offset(image)

    def keep(self, image: Image, window: Window) -> KernelCall | None:
        """Return the call by which no other part of the kernel is given a range of addresses, or None.

        It returns the range's structure, or 0 when some of it is taken.
        """
        keeper = address_of(image, *_KEEPERS)
        if keeper is None or address_of(image, _GIVER) is None:
            return None
        size, flags = window.end - window.start, _IOREMAP | _NO_GUARD
        return KernelCall(keeper, (size, flags, window.start, window.end, keeper))

    def give_back(self, image: Image, handle: int) -> KernelCall | None:
        """Return the call that ends what `keep` returned; the kernel forgets what was mapped there."""
        giver = address_of(image, _GIVER)
        return None if giver is None else KernelCall(giver, (handle,))

    def allocation(self, image: Image, size: int) -> KernelCall | None:
        """Return the call of the page allocator that gives so many bytes of the linear map, or None.

        Such blocks lie at multiples of their size. No flag (gfp.h): lowmem, at once, nothing is reclaimed.
        """
        at = address_of(image, *_PAGES)
        if at is None or address_of(image, _FREE_PAGES) is None:
            return None
        return KernelCall(at, (0, order(image, size)))

    def freeing(self, image: Image, address: int, size: int) -> KernelCall | None:
        """Return the call that frees what `allocation` gave."""
        at = address_of(image, _FREE_PAGES)
        return None if at is None else KernelCall(at, (address, order(image, size)))

    def fault_sites(self, image: Image) -> frozenset[int]:
        """Return the addresses in the kernel's exception table."""
        return exception_table(image)

    def exceptional_edges(self, image: Image) -> Mapping[int, Sequence[int]] | None:
        """Return the edges of ``__ex_table``; None without it."""
        from kgdbpatch.personality.linux.rewritten import exceptional_edges

        return exceptional_edges(image) if exception_table(image) else None

    def rewritten_edges(self, image: Image) -> Mapping[int, Sequence[int]]:
        """Return the edges of jump labels, static calls, ftrace entries, feature sections and patch sites."""
        from kgdbpatch.personality.linux.rewritten import rewritten_edges

        return rewritten_edges(image)

    def rewritten_reads(self, image: Image) -> Mapping[int, int]:
        """Return what the words that the kernel rewrites may read in their other forms."""
        from kgdbpatch.personality.linux.rewritten import rewritten_reads

        return rewritten_reads(image)

    def looked_up(self, image: Image) -> Sequence[Window]:
        """Return the table of what ftrace switches: a call behind every function's entry."""
        from kgdbpatch.personality.linux.rewritten import ftrace_tables

        return [Window(one.address, one.address + 4 * one.words.size) for one in ftrace_tables(image)]

    def rewritten(self, image: Image) -> Mapping[int, Rewritten]:
        """Return the words of jump labels, static calls, ftrace, feature fix-ups and patch sites."""
        from kgdbpatch.personality.linux.rewritten import rewritten

        return rewritten(image)

    def is_probed(self, image: Image, read: Callable[[int, int], bytes], address: int, word: int) -> bool:
        """Tell whether it is there for a kprobe."""
        from kgdbpatch.personality.linux.probes import is_probed

        pages = self.page_tables(image, read)
        physical = partial(self.to_physical, image) if pages is None else pages.physical
        return is_probed(image, physical, read, address, word)

    def is_probes_word(self, image: Image, address: int, word: int) -> bool:
        """Tell whether a word is a kprobe's: a trap, or a branch to code that was made for one."""
        from kgdbpatch.personality.linux.probes import is_probes_word

        return is_probes_word(image, address, word)

    def discarded(self, image: Image) -> Sequence[Window]:
        """Return the init memory, freed after boot."""
        return init_memory(image)
