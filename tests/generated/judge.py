"""Overwrite what the analysis calls free in programs, and patch them: they must do what they did."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from guest.junk import junk

from kgdbpatch.errors import Refused
from kgdbpatch.image import Image
from kgdbpatch.patch.payload import Payload, call_payload, count_payload
from kgdbpatch.patch.plan import Place, plan
from kgdbpatch.patch.site import Site

from .machine import BODIES, COUNTERS, Ending, Run, run
from .sites import judged

__all__ = ["Case", "Tally", "case", "compare"]

_PLAIN_LIMIT, _LIMIT = 500_000, 100_000_000  # instructions


@dataclass(frozen=True, slots=True)
class Case:
    """A program with sites chosen at random, judged by what is to be tested."""

    what: str
    image: Image
    sites: tuple[Site, ...]
    refused: Counter[str]  # by rule
    limit: int = _PLAIN_LIMIT  # of the program as it is

    @property
    def plain(self) -> Run:
        """The run of the program as it is."""
        return _run(self.image, {}, 0, self.limit)

    def patched(self, make: Callable[[Site], Payload | None], sites: Sequence[Site]) -> Run:
        """Return the run with what ``make`` returns put at each of ``sites``."""
        words: dict[int, int] = {}
        body = BODIES
        for number, site in enumerate(sites):
            payload = make(site)
            if payload is None:
                continue
            try:
                made = plan(site, payload, Place(body, None, COUNTERS + 8 * number))
            except Refused:
                continue
            words[site.address] = made.splice
            words |= {
                body + at: word
                for at, word in zip(range(0, len(made.code), 4), _words(made.code), strict=True)
            }
            body += -(-len(made.code) // 16) * 16
        return _run(self.image, words, 2 * len(sites), _LIMIT)


def _words(data: bytes) -> list[int]:
    found: list[int] = np.frombuffer(data, ">u4").tolist()
    return found


def _run(image: Image, words: Mapping[int, int], counters: int, limit: int) -> Run:
    load = min(section.address for section in image.sections)
    end = -(-max(section.end for section in image.sections) // 4) * 4
    code_end = -(-max(section.end for section in image.code_sections()) // 4) * 4
    size = max((max(words) + 4 if words else end), end) - load
    memory = np.zeros(-(-size // 4), ">u4").view(np.uint8)
    for section in image.sections:
        memory[section.address - load :][: len(section.data)] = np.frombuffer(section.data, np.uint8)
    whole = memory.view(">u4")
    for at, word in words.items():
        whole[(at - load) // 4] = word
    if not words:
        whole = whole[: (end - load) // 4]
    symbols = {symbol.name: symbol.address for symbol in image.symbols}
    return Run(
        memory=whole.tobytes(),
        load=load,
        end=end,
        entry=symbols["main"],
        r13=symbols.get("_SDA_BASE_", 0),
        data=(code_end, end),
        counters=counters,
        limit=limit,
    )


def case(what: str, path: Path, count: int, rng: random.Random) -> Case:
    """Draw ``count`` sites of a linked program and have them judged."""
    image = Image.load(path)
    every = [at for f in image.functions for at in range(f.address, f.address + f.size, 4)]
    sites, refused = judged(image, sorted(rng.sample(every, min(count, len(every)))))
    return Case(what, image, sites, refused)


@dataclass
class Tally:
    """What was tried so far."""

    programs: int = 0
    left_out: int = 0  # programs that did not end in time, or at all
    sites: int = 0  # chosen and not refused
    reached: int = 0  # overwritten at least once
    refused: Counter[str] = field(default_factory=Counter)  # by rule
    wrong: list[str] = field(default_factory=list)


def _payloads(case: Case) -> dict[str, Callable[[Site], Payload | None]]:
    scribble = {symbol.name: symbol.address for symbol in case.image.symbols}["scribble"]
    skip = range(scribble, scribble + 0x100)
    return {
        "junk": lambda site: junk(tuple(sorted(site.free)), site.abi),
        "count": lambda site: count_payload(),
        "call": lambda site: None if site.address in skip else call_payload(scribble, site.abi),
    }


def compare(name: str, cases: Sequence[Case], tally: Tally) -> None:
    """Run the programs plain and patched; what differs is narrowed down to a site and told."""
    plain = run(f"{name}-plain", [case.plain for case in cases])
    ended = [(case, ending) for case, ending in zip(cases, plain, strict=True) if ending.vector == 0]
    tally.left_out += len(cases) - len(ended)
    if not ended:
        return
    kinds = ("junk", "count", "call")
    runs = [case.patched(_payloads(case)[kind], case.sites) for case, _ in ended for kind in kinds]
    endings = iter(run(f"{name}-patched", runs))
    for each, right in ended:
        tally.programs += 1
        tally.sites += len(each.sites)
        tally.refused += each.refused
        by_kind = {kind: next(endings) for kind in kinds}
        tally.reached += sum(1 for hits in by_kind["junk"].counters[::2] if hits)
        for kind, ending in by_kind.items():
            if ending.result != right.result:
                tally.wrong.append(_blame(name, each, kind, right))
        hits = [by_kind[kind].counters[::2] for kind in ("junk", "count")]
        for site, junked, counted in zip(each.sites, *hits, strict=True):
            if junked and junked != counted:
                tally.wrong.append(f"{each.what}: {site.address:#x} hit {counted} times, {junked} with junk")


def _blame(name: str, case: Case, kind: str, right: Ending) -> str:
    """Halve the sites until one is left, and tell of it."""
    sites, make = case.sites, _payloads(case)[kind]
    while len(sites) > 1:
        half = len(sites) // 2
        parts = (sites[:half], sites[half:])
        endings = run(f"{name}-blame", [case.patched(make, part) for part in parts])
        bad = [part for part, ending in zip(parts, endings, strict=True) if ending.result != right.result]
        if not bad:
            return f"{case.what}: {kind}: only together: {[hex(site.address) for site in sites]}"
        sites = bad[0]
    site = sites[0]
    ending = run(f"{name}-blame", [case.patched(make, sites)])[0]
    place = case.image.symbolize(site.address)
    return (
        f"{case.what}: {kind} at {place} ({site.address:#x}: {site.instruction.text}), "
        f"free {' '.join(sorted(site.free))}: {ending.result} not {right.result}"
    )
