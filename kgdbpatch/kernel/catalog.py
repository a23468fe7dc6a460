"""The part of the facade that needs no guest, or only its name: running guests, images, their analysis."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kgdbpatch import personality
from kgdbpatch.errors import BadImage, KgdbPatchError, Misuse, TargetLost, UnknownGuest
from kgdbpatch.garbage import uncollected
from kgdbpatch.guests import Recipe, recipes
from kgdbpatch.image import Image
from kgdbpatch.kernel.syslog import Log
from kgdbpatch.vm import runtime

if TYPE_CHECKING:
    from kgdbpatch.analysis.call_graph import CallGraph
    from kgdbpatch.analysis.cfg import FlowGraph
    from kgdbpatch.analysis.interprocedural import ProgramLiveness
    from kgdbpatch.analysis.program import ImplicitEdges
    from kgdbpatch.image import Function
    from kgdbpatch.kernel import LiveRegisters
    from kgdbpatch.kernel.checks import Checker
    from kgdbpatch.patch.site_checker import SiteChecker
    from kgdbpatch.vm.console import Console
    from kgdbpatch.vm.qemu import Qemu

__all__ = [
    "Guest",
    "build_image",
    "call_graph",
    "checker",
    "flow",
    "guest",
    "image_path",
    "implicit_edges",
    "is_file",
    "known",
    "live",
    "liveness",
    "names",
    "open_console",
    "open_image",
    "open_log",
    "profiles",
    "running",
    "shutdown",
    "site_checker",
    "why",
    "with_functions",
]

profiles = recipes


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest as its booter recorded it and its ``state``.

    ``reason`` says why it is not ``running``, or which of its patches somebody does not leave.
    """

    name: str
    pid: int
    state: str
    kernel: str
    profile: str
    reason: str = ""


def _guest(record: runtime.GuestRecord, state: str, reason: str = "") -> Guest:
    return Guest(
        name=record.name,
        pid=record.pid,
        state=state,
        kernel=str(record.metadata.get("kernel", "")),
        profile=str(record.metadata.get("profile", "")),
        reason=record.damage or reason,
    )


def running() -> list[Guest]:
    """Return the running guests, by name."""
    return [_guest(record, "running") for record in runtime.guests()]


def known() -> list[Guest]:
    """Return the running guests and those that died and whose names were not booted again, by name.

    Whether one hangs takes some seconds to tell.
    """
    found = [_examined(record) for record in runtime.guests()]
    found += [_ended(record) for record in runtime.ended()]
    return sorted(found, key=lambda guest: guest.name)


def guest(name: str) -> Guest:
    """Return one of `known`; raise `UnknownGuest` when there is none of that name."""
    record = runtime.record(name, dead=True)
    return _examined(record) if record.alive() else _ended(record)


def _ended(record: runtime.GuestRecord) -> Guest:
    return _guest(record, "ended", f"QEMU ended ({record.process().exit_text()})")


def _examined(record: runtime.GuestRecord) -> Guest:
    from kgdbpatch.kernel.health import Watch
    from kgdbpatch.vm.qemu import Qemu

    if record.damage or record.elsewhere() or "profile" not in record.metadata:
        return _guest(record, "running")
    try:
        recipe = Recipe.recorded(record.metadata)
    except Misuse as error:  # another version's guest, or one whose machine description has gone
        return _guest(record, "running", str(error))
    qemu = Qemu(record, record.process())
    try:
        found = Watch(qemu, recipe, lambda: _load(str(record.metadata["kernel"]))).examine()
        endless = _endless(qemu, recipe) if found.state in ("running", "hung") else ""
    except TargetLost as error:  # it was shut down meanwhile
        return _guest(record, "ended", str(error))
    return _guest(record, found.state, "; ".join(filter(None, [found.reason, endless])))


def _endless(qemu: Qemu, recipe: Recipe) -> str:
    """Return what to tell of a guest's patches that are not left; nothing where that cannot be found out."""
    from kgdbpatch.component.arena import Arena
    from kgdbpatch.kernel import Kernel

    try:
        header = Arena.header(qemu.ram, recipe.memory.announced << 20)
        if header is None or not header.slots:
            return ""
        kernel = Kernel(qemu, recipe, _load(str(qemu.metadata["kernel"])))
        try:
            return kernel.endless()
        finally:
            kernel.close()
    except KgdbPatchError:  # its memory is another's, its file has gone, another client is at work
        return ""


def names() -> list[str]:
    """Return the names of the guests, of those that have died as well; nothing is asked of them."""
    return sorted(record.name for record in (*runtime.guests(), *runtime.ended()))


def shutdown(name: str) -> Guest:
    """End a guest, whatever state it is in; raise `UnknownGuest`, or `TargetLost` when it has died."""
    from kgdbpatch.vm.qemu import Qemu

    record = runtime.record(name, dead=True)
    if record.damage:
        runtime.end_all(record.directory)
        runtime.forget(record)
    else:
        Qemu.attach(name).shutdown()
    return _guest(record, "ended")


def open_log(name: str) -> Log:
    """Return the syslog of a guest, of a dead one too, without looking at anything else of it."""
    from kgdbpatch.vm.qemu import Qemu

    qemu = Qemu.attach(name, dead=True)
    return Log(qemu.console, Recipe.recorded(qemu.metadata).personality)


def open_console(name: str) -> Console:
    """Return the console of a running guest, without looking at anything else of it."""
    from kgdbpatch.vm.qemu import Qemu

    return Qemu.attach(name).console


def build_image(profile: str, progress: Callable[[str], None] = lambda _: None) -> Path:
    """Build a profile's kernel when the cache has none, and return its path."""
    return Recipe.find(profile).build(progress)


def image_path(profile: str) -> Path:
    """Return the path of a profile's kernel in the cache; raise `Misuse` when it is not built."""
    path = Recipe.find(profile).image_path()
    if path is None:
        raise Misuse(f"the image of '{profile}' is not built; run: kgdbpatch image build {profile}")
    return path


def is_file(what: str) -> bool:
    """Tell whether the name of a kernel means a file; a directory does not hide a guest."""
    return Path(what).exists() and not Path(what).is_dir()


def open_image(what: str) -> Image:
    """Return the image that ``what`` means: a file's path, or else the name of a running guest.

    ``memory:NAME`` is the kernel as it lies in a running guest's memory: of Linux with what it knows
    of its own symbols (its file is not looked at), of Darwin with the extensions that are loaded.
    Functions of a file without symbols are guessed, and marked so.
    """
    if is_file(what):
        return with_functions(_load(what))
    if what.startswith("memory:"):
        return _in_memory(what.removeprefix("memory:"))
    try:
        return _load(str(runtime.record(what).metadata["kernel"]))
    except UnknownGuest as error:
        if "/" in what or "." in what:
            raise BadImage(what, "a directory" if Path(what).is_dir() else "no such file") from error
        raise UnknownGuest(f"'{what}' is no file, and {error}") from error


def _load(path: str) -> Image:
    with uncollected():
        image = Image.load(path)
        _ = image.functions
    return image


def with_functions(image: Image) -> Image:
    """Return the image with what seems to be functions in the code sections that name none."""
    named = image.functions.sections
    bare = [section for section in image.code_sections() if section.name not in named]
    if not bare:
        return image
    from kgdbpatch.analysis.function_starts import guess_functions

    code = [(section.address, image.words(section)) for section in bare]
    data = [(section.address, image.words(section)) for section in image.sections if not section.executable]
    return image.with_guessed(guess_functions(code, data))


def _in_memory(name: str) -> Image:
    from kgdbpatch.image.memory import image_from_memory
    from kgdbpatch.kernel import Kernel
    from kgdbpatch.vm.qemu import Qemu

    qemu = Qemu.attach(name)
    if qemu.metadata.get("profile") != "darwin":
        ram = qemu.ram  # reading it neither stops the guest nor asks it anything
        return image_from_memory(
            name, ((start, ram.read(start, end - start)) for start, end in ram.touched())
        )
    kernel = Kernel.attach(name)
    try:
        return with_functions(kernel.with_extensions())
    finally:
        kernel.close()


@dataclass(frozen=True, slots=True)
class Analysis:
    """What a kernel's code consists of, and how long it took to find out."""

    format: str
    functions: int
    instructions: int
    undecoded: int
    blocks: int
    edges: int
    calls: int
    indirect_branches: int
    indirect_resolved: int
    jump_tables: int
    indirect_tail_calls: int
    seconds: float


def analyze(image: Image) -> Analysis:
    """Count what is in all code of an image."""
    from kgdbpatch.analysis import statistics

    start = time.perf_counter()
    figures = statistics.analyze(
        [(section.address, image.words(section)) for section in image.code_sections()],
        image.functions.spans(),
        [(section.address, section.data) for section in image.sections],
        implicit_edges(image),
    )
    seconds = round(time.perf_counter() - start, 4)
    return Analysis(format=image.format, seconds=seconds, **asdict(figures))


def liveness(image: Image) -> ProgramLiveness:
    """Analyse all code of an image; nothing of it is remembered."""
    from kgdbpatch.analysis.interprocedural import analyze_program

    return analyze_program(
        [(section.address, image.words(section)) for section in image.code_sections()],
        image.functions.spans(),
        image.abi,
        [(section.address, section.data) for section in image.sections],
        implicit_edges(image),
        rewritten_reads(image),
    )


def call_graph(image: Image) -> CallGraph:
    """Return who calls whom in an image, data objects that hold functions included."""
    from kgdbpatch.analysis.call_graph import CallGraph

    found = liveness(image)
    return CallGraph(found.blocks, found.word_effects.defs, found.indirect.constants, _objects(image))


def _objects(image: Image) -> list[tuple[int, bytes]]:
    """Return (address, bytes) of the named data objects; one without a size reaches to the next."""
    objects: list[tuple[int, bytes]] = []
    places: dict[str, dict[int, int]] = {}
    for symbol in image.symbols:
        if symbol.kind == "object":
            sizes = places.setdefault(symbol.section, {})
            sizes[symbol.address] = max(symbol.size, sizes.get(symbol.address, 0))
    for section in image.sections:
        known = sorted(places.get(section.name, {}).items())
        ends = [address for address, _ in known[1:]] + [section.end]
        for (address, size), end in zip(known, ends[: len(known)], strict=True):
            start = address - section.address
            objects.append((address, section.data[start : start + (size or end - address)]))
    return objects


@dataclass(frozen=True, slots=True)
class Flow:
    """The flow graph of a function, with what is live before each of its blocks."""

    graph: FlowGraph
    live_in: dict[int, tuple[str, ...]]


def flow(image: Image, function: Function) -> Flow:
    """Return the flow graph of a function; jump tables and calls that do not return are known."""
    from kgdbpatch.analysis.cfg import FlowGraph
    from kgdbpatch.analysis.regset import to_mask
    from kgdbpatch.isa.registers import names
    from kgdbpatch.kernel.offline import words

    found = liveness(image)
    blocks, program = found.blocks, found.program
    final = (blocks.callee >= 0) & found.summaries.no_return[blocks.callee]
    graph = FlowGraph(
        words(image, function.address, function.size // 4),
        function.address,
        implicit_edges(image).all,
        found.indirect.tables,
        frozenset(program.address[blocks.last[final]].tolist()),
        _data_words(found, function),
    )
    before = found.solve().before
    places = {int(program.address[first]): number for number, first in enumerate(blocks.first.tolist())}
    live_in = {
        start: () if graph.is_data(start) else tuple(names(to_mask(int(before[places[start]]))))
        for start in graph.blocks
    }
    return Flow(graph, live_in)


def _data_words(found: ProgramLiveness, function: Function) -> frozenset[int]:
    """Return the words of a function that are entries of jump tables, or that no way leads to."""
    from kgdbpatch.analysis.reach import Reach

    program, of_word = found.program, found.blocks.of_word
    words = range(function.address, function.address + function.size, 4)
    inside = [at for at in words if (word := program.at(at)) >= 0 and program.function[word] >= 0]
    data = (Reach.TABLE, Reach.NEVER)
    return frozenset(at for at in inside if found.reach[of_word[program.at(at)]] in data)


def site_checker(image: Image) -> SiteChecker:
    """Return what answers for the sites of a kernel that does not run."""
    from kgdbpatch.kernel import offline

    return offline.site_checker(image)


def checker(image: Image, *, count: bool = False) -> Checker:
    """Return what judges sites of a kernel that does not run, as `Kernel.checker` does of one that does."""
    from kgdbpatch.kernel import offline
    from kgdbpatch.kernel.checks import Checker

    return Checker(image, offline.planner(image), count=count)


def implicit_edges(image: Image) -> ImplicitEdges:
    """Return where control may go in a kernel without a branch that says so."""
    from kgdbpatch.kernel import off_limits

    return off_limits.implicit_edges(personality.detect(image), image)


def rewritten_reads(image: Image) -> Mapping[int, int]:
    """Return which registers words may read when the kernel has rewritten them."""
    return personality.detect(image).rewritten_reads(image)


def live(image: Image, site: str) -> LiveRegisters:
    """Return which registers are live and which are free at a site of a kernel that does not run."""
    from kgdbpatch.kernel import LiveRegisters

    address = image.resolve(site)
    instruction, live_there, free = site_checker(image).live(address)
    return LiveRegisters(address, instruction.written_for(image.model), live_there, free)


def why(image: Image, site: str) -> dict[str, int | None]:
    """Return, for every register live at a site, the nearest instruction that may read it (`Kernel.why`)."""
    return site_checker(image).why(image.resolve(site))
