"""The running kernel's text: its words with and without patches, and whether they are as they should be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from kgdbpatch import cpu
from kgdbpatch.component import Header
from kgdbpatch.component.arena import Arena
from kgdbpatch.component.kernel_calls import kept, pending
from kgdbpatch.component.layout import SPRINGBOARD_SIZE
from kgdbpatch.component.ports import Cpu
from kgdbpatch.component.table import Table
from kgdbpatch.component.watched import Watched, watched
from kgdbpatch.errors import Misuse, Refused
from kgdbpatch.image import Image
from kgdbpatch.kernel.module_list import ModuleList
from kgdbpatch.kernel.modules import ModuleImages
from kgdbpatch.kernel.removal import as_patch
from kgdbpatch.patch.rewritten import DETOUR, PROBED, UNPROBED, Rewritten
from kgdbpatch.personality.base import ArenaPlan, Personality
from kgdbpatch.results import KernelChange, PatchState, Verification
from kgdbpatch.vm.ram import Machine, Traced

if TYPE_CHECKING:
    from kgdbpatch.patch.trap import Hook

__all__ = ["RunningText"]

_PAGE = 4096
_TRIES = 5  # at reading patch table and text while nobody changes patches


class _Undone(NamedTuple):
    """The kernel's own ``words`` at ``sites``, ascending, which hold something else while patches are in."""

    sites: npt.NDArray[np.int64]
    words: npt.NDArray[np.uint32]
    watched: Watched | None = None


class RunningText:
    """Read a kernel's text in a guest's RAM, which goes on running ``on`` a CPU (default: its file's)."""

    def __init__(
        self, machine: Machine, personality: Personality, image: Image, on: Cpu | None = None
    ) -> None:
        self._machine, self._personality, self._image = machine, personality, image
        self._cpu = on or cpu.of_model(image.model)
        self._held: _Undone | None = None
        self.modules = ModuleList(personality, image, lambda at, size: machine.ram.read(at, size))
        self.images = ModuleImages(self.modules, personality, image, self.words)

    @property
    def _ram(self) -> Traced:
        return self._machine.ram

    @cached_property
    def arena(self) -> ArenaPlan:
        """The arena of a guest that was booted with the profile's memory plan."""
        return self._personality.arena(self._image)

    def conflict(self, arena: ArenaPlan) -> str | None:
        """Return why the kernel itself uses an arena's addresses, or None; `Misuse` without memory."""
        if arena.physical + arena.size > self._ram.size:
            raise Misuse(f"the guest has no hidden memory at 0x{arena.physical:x}")
        windows = [one.window for one in kept(self._ram, arena.physical)]
        return self._personality.arena_conflict(self._image, self._ram.read, arena, windows)

    def check_arena(self, arena: ArenaPlan) -> None:
        """Raise `Misuse` where the guest has no memory for the arena, `Refused` where the kernel maps it."""
        conflict = self.conflict(arena)
        if conflict is not None:
            raise Refused("mapping", f"the arena cannot be mapped at 0x{arena.virtual:08x}: {conflict}")

    def header(self) -> Header | None:
        """Return the component's header, or None when the guest has none."""
        return Arena.header(self._ram, self._personality.memory.arena_at)

    def to_physical(self, address: int) -> int | None:
        """Return the physical address of wired kernel memory, or None."""
        return self._personality.to_physical(self._image, address)

    def _arena(self, header: Header) -> Arena:
        return Arena(self._ram, header.arena, self.modules.loaded)

    def raw_words(self, address: int, count: int) -> npt.NDArray[np.uint32]:
        """Return words as they are now; raise `Refused` (rule ``memory``) where nothing is wired."""
        physical = self.to_physical(address)
        if physical is None:
            return self._words_of_module(address, count)
        if physical is None or physical + 4 * count > self._ram.size:
            raise Refused("memory", f"0x{address:08x} is not wired kernel memory", address)
        return self._ram.array(physical, 4 * count).view(">u4").astype(np.uint32)

    def _words_of_module(self, address: int, count: int) -> npt.NDArray[np.uint32]:
        """Return words of what the kernel maps page by page; as `raw_words`."""
        words, end = np.zeros(count, np.uint32), address + 4 * count
        for at in (address, *range((address | _PAGE - 1) + 1, end, _PAGE)):
            physical, size = self.modules.physical(at), min((at | _PAGE - 1) + 1, end) - at
            if physical is None or physical + size > self._ram.size:
                raise Refused("memory", f"0x{at:08x} is not wired kernel memory", at)
            first = (at - address) // 4
            words[first : first + size // 4] = self._ram.array(physical, size).view(">u4")
        return words

    def words(self, address: int, count: int) -> npt.NDArray[np.uint32]:
        """Return ``count`` instruction words of the running kernel as they are without patches."""
        words = self.raw_words(address, count)
        undone = self._held or self._undone()
        first, behind = np.searchsorted(undone.sites, (address, address + 4 * count)).tolist()
        words[(undone.sites[first:behind] - address) // 4] = undone.words[first:behind]
        if undone.watched is not None:
            undone.watched.undo(address, words)
        return words

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Have `words` look at header and patch table only once, for one operation."""
        before, self._held = self._held, self._held or self._undone()
        try:
            yield
        finally:
            self._held = before

    def changed(self) -> list[int]:
        """Return the addresses of the text's words that patches and the component have changed."""
        found: list[int] = self._undone().sites.tolist()
        return found

    def _undone(self) -> _Undone:
        """Return what patches and the component have changed in the kernel's text."""
        header, found, watch = self.header(), dict[int, int](), None
        if header is not None and header.slots:
            table = self._arena(header).table()
            found, watch = table.originals(), watched(self._ram, self._arena(header), table)
        if header is not None:
            found |= self._cpus()
            found |= {} if header.hook is None else header.hook.originals()
            found |= self._tail_words(header)
            found |= dict.fromkeys(self._gate(header), 0)
            found |= dict.fromkeys(self._watch_tail(watch), 0)
        sites = np.array(sorted(found), np.int64)
        return _Undone(sites, np.array([found[at] for at in sites.tolist()], np.uint32), watch)

    def _watch_tail(self, watch: Watched | None) -> range:
        """Return the addresses of the words in a vector's tail that watch what is executed."""
        if watch is None or self._vector_shift is None:
            return range(0)
        start = watch.tail + self._vector_shift
        return range(start, start + 4 * len(watch.tail_code), 4)

    def _cpus(self) -> dict[int, int]:
        """Return address ─► the kernel's own word where the component has changed it to run at all."""
        arena = self._personality.memory.announced << 20
        return self._cpu.changed_text(self._ram, arena) if arena < self._ram.size else {}

    @cached_property
    def _vector_shift(self) -> int | None:
        """What physical addresses of the vectors, the first 64 KiB, are less than virtual ones."""
        return self._cpu.vector_shift(self._personality, self._image)

    def _tail_words(self, header: Header) -> dict[int, int]:
        """Return address ─► 0, as it is without us, for each word of the vectors' tails that is a patch's."""
        shift = self._vector_shift
        if shift is None or header.arena.tails is None or not header.slots:
            return {}
        arena = self._arena(header)
        return {at + shift: 0 for at in arena.tail_words(arena.table().raw)}

    def _gate(self, header: Header) -> range:
        """Return the addresses of the words that are the component's while a kernel function is called."""
        gate = pending(self._ram, header.arena.physical)
        return range(0) if gate is None else range(gate.start, gate.end, 4)

    def pieces(self) -> list[tuple[int, npt.NDArray[np.uint32]]]:
        """Return (address, words of the image) of all code that stays in memory after boot."""
        pieces = []
        windows = [(window.start, window.end) for window in self._personality.discarded(self._image)]
        for section in self._image.code_sections():
            words = self._image.words(section)
            kept = not any(start <= section.address < end for start, end in windows)
            if kept and words.size and self.to_physical(section.address) is not None:
                pieces.append((section.address, words))
        return pieces

    def differences(self) -> dict[int, int]:
        """Return address ─► running word wherever the running text is not the image's.

        What the component has changed to run at all counts as it was; what handlers of exceptions keep their
        data in is no text.
        """
        found, own, header = {}, self._cpus(), self.header()
        watch = None if header is None or not header.slots else watched(self._ram, self._arena(header))
        for address, words in self.pieces():
            running = self.raw_words(address, words.size)
            if watch is not None:
                watch.undo(address, running)
            for at, word in own.items():
                if address <= at < address + 4 * words.size:
                    running[(at - address) // 4] = word
            for index in np.flatnonzero(running != words):
                found[address + 4 * int(index)] = int(running[index])
        for at in self._variables:
            found.pop(at, None)
        return found

    @cached_property
    def _variables(self) -> frozenset[int]:
        """The addresses of words in the text that are its handlers' data."""
        return self._cpu.variables(self._personality, self._image)

    def free_tails(self) -> list[int]:
        """Return the free springboard slots in vector tails, at the addresses at which they are entered."""
        window, shift = self.arena.tails, self._vector_shift
        if window is None or shift is None:
            return []
        hooked = self.hook.span if self.hook else range(0)
        start = window.start - shift
        return [
            start + at
            for tail in self._cpu.vector_tails(self._personality, self._image)
            for at in range(-(-tail.start // SPRINGBOARD_SIZE) * SPRINGBOARD_SIZE, tail.end, SPRINGBOARD_SIZE)
            if not (at in hooked or at + SPRINGBOARD_SIZE - 4 in hooked)
            and window.start <= start + at < window.end
            and not self.raw_words(at, SPRINGBOARD_SIZE // 4).any()
        ]

    @cached_property
    def hook(self) -> Hook | None:
        """Where the program exception can be hooked, or None."""
        header = self.header()
        arena = self.arena if header is None else header.arena
        return self._cpu.trap_hook(self._personality, self._image, arena, self.words)

    def verify(self) -> Verification | None:
        """Compare text, image and table; None when others changed patches during each of a few tries."""
        for _ in range(_TRIES):
            header = self.header()
            if header is None:
                return None
            table = self._arena(header).table()
            found = self._compare(header, table)
            again = self.header()
            if again == header and table.same(self._arena(header).table()):
                return found
        return None

    def _compare(self, header: Header, table: Table) -> Verification:
        arena = self._arena(header)
        tops, records = table.tops(), table.records()
        expected = header.baseline | tops
        mismatched = set(arena.damaged_bodies(table))
        damaged: dict[int, list[int]] = {}
        for record in records:
            if record.state is PatchState.DAMAGED:
                damaged.setdefault(record.site, []).append(record.id)
        differences, ours, hooked = self.differences(), set[int](), dict[int, int]()
        if header.hook is not None:  # it may lie behind the text
            hooked = self._cpu.hook_words(header.hook) | {header.hook.vector: header.hook.splice}
            ours = {*header.hook.span, *hooked}
        shift = self._vector_shift
        if shift is not None:  # judged by their patches' checksums
            ours |= {at + shift for at in arena.tail_words(table.raw)}
        watch = watched(self._ram, arena, table)
        ours |= {*self._gate(header), *self._watch_tail(watch)}
        differences = {at: word for at, word in differences.items() if at not in ours}
        wrong = {address for address, word in differences.items() if expected.get(address) != word}
        wrong |= {address for address in expected if address not in differences}
        wrong |= {address for address, word in hooked.items() if int(self.raw_words(address, 1)[0]) != word}
        wrong |= damaged.keys()
        if watch is not None:
            pairs = [
                (at, word) for at, word in zip(self._watch_tail(watch), watch.tail_code, strict=True) if word
            ]
            spliced = any(record.id == watch.id and record.spliced for record in records)
            wrong |= {at for at, word in pairs if self._at(at) not in ((word,) if spliced else (word, 0))}
        changes = [
            self._change(address, header.baseline.get(address), tuple(damaged.get(address, ())))
            for address in sorted(wrong)
        ]
        own = tuple(change for change in changes if change is not None)
        mismatched |= wrong - {change.address for change in own}
        slots = {change.address for change in own if change.kind == DETOUR}
        own = tuple(
            change for change in own if change.address not in slots or change.address - 4 not in slots
        )
        unloaded = tuple(as_patch(record) for record in records if record.state is PatchState.UNLOADED)
        patched = len({record.site for record in records if record.state is PatchState.ACTIVE})
        return Verification(not mismatched, patched, tuple(sorted(mismatched)), own, unloaded)

    def _change(self, address: int, before: int | None, patches: tuple[int, ...]) -> KernelChange | None:
        """Return what to tell of a word that is not as expected, if the kernel itself may have written it.

        ``before`` is what it was when the component was installed, where that is not the image's.
        """
        what = self._personality.rewritten(self._image).get(address)
        word = int(self.raw_words(address, 1)[0])
        if what is None and self._personality.is_probed(self._image, self._ram.read, address, word):
            what = Rewritten(PROBED)
        if what is None and before is not None and word == self._own_word(address):
            was_probed = self._personality.is_probes_word(self._image, address, before)
            what = Rewritten(UNPROBED) if was_probed else None
        if what is None:
            return None
        if not what.may_hold(address, word):
            return None
        text = what.change(address, word, self._image.symbolize)
        if patches:
            text += f"; it overwrote patch {', '.join(map(str, patches))}"
        return KernelChange(address, self._image.symbolize(address), what.kind, text, patches)

    def _at(self, address: int) -> int:
        return int(self.raw_words(address, 1)[0])

    def _own_word(self, address: int) -> int:
        """Return the image's word."""
        return int.from_bytes(self._image.read(address, 4), "big")
