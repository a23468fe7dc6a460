"""The words of a Linux kernel that it rewrites itself: found from its own tables and symbols.

Feature fix-ups are counted in although a kernel makes most of them when it boots: barriers and
flushes are switched while it runs, and nothing in an image tells which of the tables are read again.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from kgdbpatch.analysis.arrays import distinct
from kgdbpatch.isa import encode
from kgdbpatch.isa.decode import Kind, decode
from kgdbpatch.isa.registers import ALL, mask
from kgdbpatch.patch.rewritten import (
    CALL_TARGET,
    DETOUR,
    FEATURE,
    FTRACE,
    JUMP_LABEL,
    PATCH_SITE,
    STATIC_CALL,
    Rewritten,
)
from kgdbpatch.personality.linux.probes import SLOTS, probe_code
from kgdbpatch.personality.linux.tables import (
    Table,
    exception_entries,
    in_code,
    jump_entries,
    table,
    words_at,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kgdbpatch.image import Image
    from kgdbpatch.isa.fields import Words

__all__ = ["exceptional_edges", "ftrace_tables", "rewritten", "rewritten_edges", "rewritten_reads"]

_NOP = encode.nop()
_FILLERS = (_NOP, 0x63FF_0000)  # nop; ori r31,r31,0: what stands where a barrier may come to stand
_TRAMPOLINE = "__SCT__"
_TRAMPOLINE_WORDS = 8  # branch, lis, lwz, mtctr, bctr, li r3,0, blr, where the long way leads
_TRAMPOLINE_DATA = 28
_RETURN_0 = 5  # which of the words that is
_BRANCH = 18
_BCTR, _BLR, _LI_R3_0 = 0x4E80_0420, 0x4E80_0020, 0x3860_0000
_MFLR_R0, _STW_R0 = 0x7C08_02A6, 0x9001_0004  # mflr r0; stw r0,4(r1)
_FIXUPS = re.compile(r"__(?:start__+)?(?P<name>\w+_fixup)")
_PATCH_SITE = re.compile(r"_*patch__\w+|(?:hash_page|flush_hash)_patch_\w+")
_TRACER, _REDIRECTING = "ftrace_caller", ("klp_enable_patch", "register_ftrace_direct")
_TRACERS = (_TRACER, "ftrace_regs_caller", "_mcount")
_FTRACE_CALL = re.compile(r"ftrace_(?:regs_|graph_|graph_regs_)?call")
_FTRACE_STUBS = re.compile(r"ftrace_tramp_\w+|ftrace_ool_stub_\w+")
_FTRACE_TABLES = ("__mcount_loc", "__patchable_function_entries")
_FTRACE_MARKS = ("__start_mcount_loc", "__stop_mcount_loc")


@lru_cache(maxsize=4)
def rewritten(image: Image) -> Mapping[int, Rewritten]:
    """Return address ─► what the kernel has it for, of the words of an image that it may rewrite."""
    found: dict[int, Rewritten] = {}
    for collect in (_features, _patch_sites, _detours, _ftrace, _static_calls, _jump_labels):
        found |= collect(image)
    return found


def exceptional_edges(image: Image) -> dict[int, tuple[int, ...]]:
    """Return where control goes on when an instruction faults, by its address: at its fix-up."""
    edges = defaultdict[int, set[int]](set)
    for site, fixup in exception_entries(image).tolist():
        edges[site].add(fixup)
    return {site: tuple(sorted(targets)) for site, targets in edges.items()}


def rewritten_edges(image: Image) -> dict[int, tuple[int, ...]]:
    """Return where control may go from words that the kernel rewrites, in any of their forms.

    A jump label leads to its target or behind it. A static call's trampoline leads behind its first
    word too, to a call of whatever a pointer says, and to where it returns 0. A call that may become a
    nop goes on behind it, and so does control from any word of a feature section: what the kernel puts
    there ends at the section's end.
    """
    edges = defaultdict[int, set[int]](set)
    for site, target, _ in jump_entries(image).tolist():
        edges[site].update((target, site + 4))
    trampolines = _trampolines(image)
    for site in trampolines:
        edges[site].update(_ways_of_trampoline(image, site))
    kinds = (FTRACE, STATIC_CALL, PATCH_SITE)
    switched = np.array([site for site, what in rewritten(image).items() if what.kind in kinds], np.int64)
    branches = set(switched[words_at(image, switched) >> 26 == _BRANCH].tolist()) - trampolines.keys()
    for start, end, _, _ in _feature_sections(image):
        for site in range(start, end, 4):
            edges[site].add(end)
    for site in branches & edges.keys():
        edges[site].add(site + 4)
    found = {site: (site + 4,) for site in branches - edges.keys()}
    return found | {site: tuple(sorted(targets)) for site, targets in edges.items()}


def rewritten_reads(image: Image) -> dict[int, int]:
    """Return which registers a word may read in other forms than the one that it has in the image.

    An ftrace entry may become a call of a tracer, which is given LR in r0, or where it is; what tracers
    and static calls call reads what calls read. A feature section reads what its alternative
    reads. Of a patch site the kernel changes a number, or it makes a nop of it; a nop becomes nobody
    knows what, which reads everything.
    """
    call = image.abi.args | mask("r1", "r2", "r13", "lr")
    redirected = call | image.abi.indirect | mask("r0")
    traced = redirected if _may_redirect(image) else call & ~image.abi.args | mask("r0")
    by_kind = {FTRACE: traced, STATIC_CALL: call, PATCH_SITE: ALL}
    reads = {}
    for site, what in rewritten(image).items():
        if what.kind in by_kind and (what.kind != PATCH_SITE or _word(image, site) == _NOP):
            reads[site] = by_kind[what.kind]
    reads |= dict.fromkeys(_tracers_calls(image) & reads.keys(), redirected)
    for start, end, other, other_end in _feature_sections(image):
        found = 0
        for place in range(other, other_end, 4):
            found |= _may_read(_word(image, place)) if _in_code(image, place) else ALL
        for site in range(start, end, 4) if found else ():
            reads[site] = reads.get(site, 0) | found
    return reads


def _may_redirect(image: Image) -> bool:
    """Tell whether what is put at ftrace entries may lead to another function, which reads the arguments.

    A tracer saves and restores what its caller has, and may show it, as a kprobe may anywhere: that changes
    nothing. With the kernel's own live patches, and direct calls, other functions do the work.
    """
    known = image.symbols.last((_TRACER, *_REDIRECTING))
    return _TRACER not in known or len(known) > 1


def _may_read(word: int) -> int:
    """Return what an instruction reads, everything of one that sends control elsewhere."""
    if word == _NOP:
        return 0
    found = decode(word)
    plain = not found.kind.transfers and found.kind not in (Kind.CALL, Kind.TRAP, Kind.SYSCALL)
    return found.uses if plain else ALL


def _ways_of_trampoline(image: Image, site: int) -> set[int]:
    zero = site + 4 * _RETURN_0
    ways = {site + 4}
    if _in_code(image, zero + 4) and (_word(image, zero), _word(image, zero + 4)) == (_LI_R3_0, _BLR):
        ways.add(zero)
    return ways


def _word(image: Image, address: int) -> int:
    return int.from_bytes(image.read(address, 4), "big")


def _in_code(image: Image, address: int) -> bool:
    section = image.section_at(address)
    return section is not None and section.executable and not address & 3


def _jump_labels(image: Image) -> dict[int, Rewritten]:
    rows = jump_entries(image).tolist()
    names = {key: image.symbolize(key & ~3) for key in {key for _, _, key in rows}}
    return {site: Rewritten(JUMP_LABEL, names[key], target) for site, target, key in rows}


@lru_cache(maxsize=4)
def _trampolines(image: Image) -> dict[int, str]:
    """Return address ─► name of the static calls' trampolines, of a stripped kernel too."""
    found = {}
    for section in image.code_sections():
        words = image.words(section)
        size = words.size - _TRAMPOLINE_WORDS + 1
        if size <= 0:
            continue
        here = np.flatnonzero(words[5 : 5 + size] == _LI_R3_0)
        here = here[(words[here + 4] == _BCTR) & (words[here + 6] == _BLR)]
        here = here[words[here + 1] >> 26 == encode.lis(0, 0) >> 26]
        for index in here.tolist():
            high, low = int(words[index + 1]), int(words[index + 2])
            offset = (low & 0xFFFF ^ 0x8000) - 0x8000
            address = section.address + 4 * index
            if ((high << 16) + offset) & 0xFFFF_FFFF == address + _TRAMPOLINE_DATA and low >> 26 == 32:
                found[address] = image.symbolize(address)
    for symbol in image.symbols.beginning(_TRAMPOLINE):
        if _in_code(image, symbol.address):
            found[symbol.address] = symbol.name
    return found


def _static_calls(image: Image) -> dict[int, Rewritten]:
    found = {}
    for address, name in _trampolines(image).items():
        name = name.removeprefix(_TRAMPOLINE)
        found[address] = Rewritten(STATIC_CALL, name)
        if _in_code(image, address + _TRAMPOLINE_DATA):
            lis, lwz = (_word(image, address + 4 * number) for number in (1, 2))
            if (lis >> 26, lwz >> 26) == (15, 32):
                found[address + _TRAMPOLINE_DATA] = Rewritten(CALL_TARGET, name)
    marks = ("__start_static_call_sites", "__stop_static_call_sites")
    sites = table(image, ".static_call_sites", marks)
    if sites is not None:
        for site, key in sites.rows(image, 2, (0,)).tolist():
            found[site] = Rewritten(STATIC_CALL, image.symbolize(key & ~3))
    return found


def ftrace_tables(image: Image) -> list[Table]:
    """Return the tables of the places at which functions are traced."""
    found = (table(image, name, _FTRACE_MARKS) for name in _FTRACE_TABLES)
    return [one for one in found if one is not None]


def _tracers_calls(image: Image) -> set[int]:
    """Return the words at which tracers themselves call, or lead on."""
    named = image.symbols.beginning("ftrace_")
    places = {symbol.address for symbol in named if _FTRACE_CALL.fullmatch(symbol.name)}
    for symbol in named:
        function = image.function_at(symbol.address) if _FTRACE_STUBS.fullmatch(symbol.name) else None
        if function is not None:
            places.update(range(symbol.address, function.end, 4))
    return places


def _ftrace(image: Image) -> dict[int, Rewritten]:
    calls = np.array(sorted(_tracers_calls(image)), np.int64)
    tables = [entries.rows(image, 1, (0,))[:, 0] for entries in ftrace_tables(image)]
    listed = distinct(np.concatenate([calls[:0], *tables]))
    listed = listed[in_code(image, listed)]
    listed = listed[_may_trace(words_at(image, listed))]
    looks = _traced_by_looks(image) if len(calls) else calls
    places = distinct(np.concatenate([calls, listed if 2 * len(listed) > len(looks) else looks]))
    places = places[in_code(image, places)]
    words, second = words_at(image, places), np.zeros(len(places), np.uint32)
    more = in_code(image, places + 4)
    second[more] = words_at(image, places[more] + 4)
    more &= _room_for_two(words, second)
    sure, tracers = set(listed.tolist()), {one.address for one in image.symbols.last(_TRACERS).values()}
    rows, found = zip(places.tolist(), words.tolist(), more.tolist(), strict=True), {}
    for (place, word, two), name in zip(rows, image.symbolize_all(places.tolist()), strict=True):
        leads = encode.branch_target(place, word)
        known = place in sure or leads in tracers
        what = Rewritten(FTRACE, name, (leads or place) if known else None)
        found[place] = what
        if two:
            found[place + 4] = what
    return found


def _traced_by_looks(image: Image) -> NDArray[np.int64]:
    """Return where functions begin as those that are traced do: with room, or what compilers put at ``-pg``.

    The kernel gives its table of them up when it has booted: one read from RAM has none. Functions
    begin where symbols say, and behind what never goes on.
    """
    found = []
    starts = np.array([start for start, _ in image.functions.spans()], np.int64)
    for section in image.code_sections():
        words = np.append(image.words(section), np.zeros(3, np.uint32))
        inside = starts[(starts >= section.address) & (starts + 4 <= section.end)]
        ended = (words == _BLR) | (words == _BCTR) | ((words >> 26 == _BRANCH) & (words & 1 == 0))
        here = distinct(np.concatenate(((inside - section.address) // 4, np.flatnonzero(ended[:-3]) + 1)))
        first, second, third = (words[here + number] for number in range(3))
        room, called = (  # a nop, or a call of the tracer
            (one == _NOP) | ((one >> 26 == _BRANCH) & (one & 3 == 1)) for one in (second, third)
        )
        room &= (first == _MFLR_R0) | ((first == _NOP) & (second == _NOP))
        called &= (first == _MFLR_R0) & (second == _STW_R0)
        found += [section.address + 4 * here[room], section.address + 4 * (here[called] + 2)]
    return distinct(np.concatenate([starts[:0], *found]))


def _may_trace(words: Words) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (words >> 26 == _BRANCH) & (words & 3 == 1)
    found |= (words == _NOP) | (words == _MFLR_R0)
    return found


def _room_for_two(first: Words, second: Words) -> NDArray[np.bool_]:
    """Tell whether a kernel writes ``mflr r0`` and a call of its tracer there, or has (one read from RAM)."""
    found: NDArray[np.bool_] = (second == _NOP) | (second >> 26 == _BRANCH)
    found &= first == _MFLR_R0
    found |= (first == _NOP) & (second == _NOP)
    return found


def _patch_sites(image: Image) -> dict[int, Rewritten]:
    """Return what symbols like ``patch__hash_page_A0`` name: words of data that point at code, or code."""
    found = {}
    for symbol in image.symbols.holding("patch_"):
        if not _PATCH_SITE.fullmatch(symbol.name):
            continue
        what = Rewritten(PATCH_SITE, symbol.name)
        if _in_code(image, symbol.address):
            found[symbol.address] = what
            continue
        section = image.section_at(symbol.address)
        data = b"" if section is None else section.data[symbol.address - section.address :][:4]
        if len(data) == 4:
            pointer = Table(symbol.address, np.frombuffer(data, ">i4").astype(np.int64))
            found |= dict.fromkeys(pointer.rows(image, 1, (0,))[:, 0].tolist(), what)
    return found


def _detours(image: Image) -> dict[int, Rewritten]:
    """Return the words of the room that the kernel keeps in its text for the code of optimized kprobes."""
    return dict.fromkeys(probe_code(image), Rewritten(DETOUR, SLOTS))


def _features(image: Image) -> dict[int, Rewritten]:
    """Return the words that tables called ``…_fixup`` name, in the forms that such tables have."""
    found: dict[int, Rewritten] = {}
    for name, entries in _fixup_tables(image).items():
        sections = [(row[at], row[at + 1]) for row in _sections(image, name, entries) for at in (0, 2)]
        what, whole = Rewritten(FEATURE, name), "ftr" in name or "btb" in name
        for first, behind in sections if whole else _single(image, entries):
            words = range(first, behind, 4)
            found |= {place: what for place in words if _in_code(image, place)}
    return found


def _fixup_tables(image: Image) -> dict[str, Table]:
    names = {section.name for section in image.sections if _FIXUPS.fullmatch(section.name)}
    starts = [symbol.name for symbol in image.symbols.beginning("__start_")]
    found = {}
    for start in starts:
        match = _FIXUPS.fullmatch(start)
        entries = table(image, "", (start, start.replace("start", "stop", 1))) if match else None
        if match and entries is not None:
            found["__" + match["name"].lstrip("_")] = entries
    for name in names - found.keys():
        entries = table(image, name)
        if entries is not None:
            found[name] = entries
    return found


Sections = Iterator[tuple[int, int, int, int]]


def _feature_sections(image: Image) -> Sections:
    """Yield the sections of all tables."""
    for name, entries in _fixup_tables(image).items():
        yield from _sections(image, name, entries)


def _sections(image: Image, name: str, entries: Table) -> Sections:
    """Yield start and end of what the kernel rewrites as a whole, and start and end of what comes there.

    What is filled up with nops has an empty alternative. Other tables have no sections.
    """
    if "ftr" in name:
        yield from _alternatives(image, entries)
    elif "btb" in name:  # each entry says where a range begins and ends
        rows = entries.rows(image, 2, (0, 1), by_entry=True).tolist()
        yield from ((start, end, end, end) for start, end in rows if start <= end)


def _alternatives(image: Image, entries: Table) -> Sections:
    """Yield sections and alternatives of entries: mask, value, start, end, start, end.

    Old kernels had no alternatives: four words.
    """
    readings = []
    for width, columns in ((6, (2, 3, 4, 5)), (4, (2, 3))):
        rows = entries.rows(image, width, columns, by_entry=True)
        starts, ends = rows[:, list(columns[::2])], rows[:, list(columns[1::2])]
        sizes = ends - starts
        sound = (sizes >= 0).all(axis=1) & (sizes[:, 0] >= sizes[:, -1])
        readings.append((sound.sum() * width, starts[sound], ends[sound]))
    _, starts, ends = max(readings, key=lambda reading: int(reading[0]))
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        other = (start[1], end[1]) if len(start) > 1 else (end[0], end[0])
        yield start[0], end[0], *other


def _single(image: Image, entries: Table) -> Iterator[tuple[int, int]]:
    """Yield what entries name that say only where something begins: a word, and the fillers behind it."""
    for (start,) in entries.rows(image, 1, (0,)).tolist():
        end = start + 4
        while _in_code(image, end) and _word(image, end) in _FILLERS:
            end += 4
        if start < end and _in_code(image, start):
            yield start, end
