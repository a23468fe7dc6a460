"""Find where the probes of a trace program are in a kernel, and write the payload of each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from kgdbpatch.analysis.calls_to import calls_to
from kgdbpatch.errors import KgdbPatchError, Misuse
from kgdbpatch.kernel.code_map import CodeMap
from kgdbpatch.kernel.trace_facts import facts_of, types_of
from kgdbpatch.kernel.trace_lines import is_line, line_places
from kgdbpatch.kernel.trace_stacks import framed
from kgdbpatch.tracing.c_text import Payload, ProbeWriter
from kgdbpatch.tracing.every import check_every
from kgdbpatch.tracing.parse import wrong
from kgdbpatch.tracing.plan import Gathered
from kgdbpatch.tracing.syntax import (
    Assign,
    Block,
    Call,
    Effect,
    If,
    Map,
    Name,
    Probe,
    Program,
    Spec,
    Stop,
)

if TYPE_CHECKING:
    from kgdbpatch.kernel.kernel import Kernel

__all__ = ["Group", "Probes"]


class Resolved(NamedTuple):
    """Where a spec of a program is: addresses, and the function whose parameters are known there, if any."""

    spec: Spec
    addresses: list[int]
    function: str | None
    entered: bool = True  # all are functions' entries


class Group(NamedTuple):
    """A payload and the sites that it is put at; None: each site's hits are counted, nothing else."""

    payload: Payload | None
    sites: list[int]
    returns: bool
    by_function: bool


class Probes:
    """What a program's probes are in one kernel: where, and the payload of each."""

    def __init__(self, kernel: Kernel, program: Program, gathered: Gathered) -> None:
        self._kernel, self._program, self._gathered = kernel, program, gathered
        self._types = types_of(kernel)
        self.facts = facts_of(kernel, self._types)
        gathered.stops = any(_stops(probe.block) for probe in program.probes)
        self.groups = [*self._grouped()]
        check_every(program, gathered)

    def _grouped(self) -> Iterator[Group]:
        number = itertools.count()
        for probe in self._program.probes:
            for spec in probe.specs:
                sites = self._resolved(spec)
                plain = _plain_count(probe, self._gathered)
                if plain is not None:
                    self._gathered.map(plain, "count", ("function",) if plain.keys else ())
                    yield Group(None, sites.addresses, spec.returns, bool(plain.keys))
                    continue
                only = sites.addresses[0] if len(sites.addresses) == 1 else None
                gathered, facts, types = self._gathered, self.facts, self._types
                writer = ProbeWriter(
                    probe,
                    spec,
                    gathered,
                    facts,
                    types,
                    sites.function,
                    next(number),
                    entered=sites.entered,
                    only=only,
                )
                payload = writer.write()
                for is_framed, addresses in self._by_frame(payload, sites):
                    yield Group(payload._replace(framed=is_framed), addresses, spec.returns, False)

    def _by_frame(self, payload: Payload, sites: Resolved) -> Iterator[tuple[bool, list[int]]]:
        """Yield sites by whether the stack begins with a frame of their own there, where that matters."""
        if not payload.stacked or sites.entered:
            yield False, sites.addresses
            return
        code = CodeMap(self._kernel)
        found: dict[bool, list[int]] = {}
        for address in sites.addresses:
            found.setdefault(framed(code, address), []).append(address)
        yield from found.items()

    def _resolved(self, spec: Spec) -> Resolved:
        """Return where a spec is; raise `Misuse` for what is nowhere."""
        image, target, text = self._kernel.image, spec.target, self._gathered.text
        try:
            if target.startswith("->"):
                return self._calls(spec)
            if is_line(target):
                return self._line(spec)
            if any(letter in target for letter in "*?["):
                found = [one for one in image.matching(target) if one.size]
                if not found:
                    near = image.near(target.translate(str.maketrans("", "", "*?[]")))
                    hint = f"; did you mean {', '.join(near)}?" if near else ""
                    raise wrong(text, spec.at, f"no function is like '{target}'{hint}")
                name = self._plain(found[0].name) if len(found) == 1 else None
                return Resolved(spec, list(dict.fromkeys(one.address for one in found)), name)
            address = self._kernel.resolve(target)
        except KgdbPatchError as error:
            raise error if getattr(error, "__notes__", None) else wrong(text, spec.at, str(error)) from None
        function = image.function_at(address)
        if function is None:
            raise wrong(text, spec.at, f"'{target}' is in no function")
        if spec.returns and address != function.address:
            raise wrong(text, spec.at, "what returns is a function: name it, without an offset")
        entered = address == function.address
        return Resolved(spec, [address], self._plain(function.name) if entered else None, entered)

    def _line(self, spec: Spec) -> Resolved:
        """Return the places of a line of source."""
        if spec.returns:
            raise Misuse("what returns is a function: name it, not a line")
        image = self._kernel.image
        found = line_places(self._kernel._image, spec.target)
        functions = {one: image.function_at(one) for one in found}
        entered = all(one is not None and at == one.address for at, one in functions.items())
        names = {one.name for one in functions.values() if one is not None}
        only = self._plain(names.pop()) if entered and len(names) == 1 else None
        return Resolved(spec, found, only, entered)

    def _plain(self, name: str) -> str:
        return name.removeprefix(self._kernel.image.symbol_prefix)

    def _calls(self, spec: Spec) -> Resolved:
        """Return the instructions that call or jump to a function, of all code; not those by pointer."""
        callee = spec.target.removeprefix("->")
        target = self._kernel.resolve(callee)
        found = calls_to(self._kernel.image, target)
        if spec.returns or not found:
            what = (
                "a call has no return of its own: name the function" if spec.returns else "nothing calls it"
            )
            raise wrong(self._gathered.text, spec.at, f"{callee}: {what}")
        return Resolved(spec, found, callee, entered=False)


def _stops(block: Block) -> bool:
    return any(
        isinstance(one, Stop) or (isinstance(one, If) and (_stops(one.then) or _stops(one.other)))
        for one in block
    )


def _plain_count(probe: Probe, gathered: Gathered) -> Map | None:
    """Return the map of a probe that only counts, by nothing or by its function; None for others."""
    if probe.condition is not None or len(probe.block) != 1:
        return None
    (one,) = probe.block
    if isinstance(one, Effect) and isinstance(one.expression, Call):
        call, target = one.expression, Map("@", (), one.expression.at)
    elif (
        isinstance(one, Assign)
        and one.operator == "="
        and isinstance(one.value, Call)
        and isinstance(one.target, Map)
    ):
        call, target = one.value, one.target
    else:
        return None
    named = [key for key in target.keys if isinstance(key, Name) and key.name == "func"]
    if call.name != "count" or call.arguments or target.name != "@" or len(named) != len(target.keys):
        return None
    known = gathered.maps.get("@")
    return target if len(named) < 2 and (known is None or known.kind == "count") else None
