"""What a command line says of a guest to boot, as a recipe: flags mean what the recipe's keys mean."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kgdbpatch.errors import BadImage, Misuse
from kgdbpatch.guests.hidden import LEAST, comfortable, fits, hiding, told
from kgdbpatch.guests.known import is_recipe
from kgdbpatch.guests.recipe import LOADERS, STARTING, Recipe
from kgdbpatch.guests.written import written
from kgdbpatch.personality import MemoryPlan, detect
from kgdbpatch.vm.arguments import check_arguments
from kgdbpatch.vm.machine import MachineDescription, machines

if TYPE_CHECKING:
    from kgdbpatch.image import Image

__all__ = ["BootOptions", "ordered"]

_FILLED = "{announced_mib}"
# Linux, init/main.c, run_init_process and free_initmem: its own boot is over
_READY = {"Run %s as init process": STARTING, "Freeing unused kernel ": "Freeing unused kernel "}
_FIRST = 0x0FFF_FFFF  # of an address: what a board that starts kernels at their first byte adds to its own
_WITH_INITRD = ("qemu", "as-is")
_WITH_COMMAND_LINE = (*_WITH_INITRD, "bootx")
_QUIET = re.compile(r"(?:^|\s)(quiet|loglevel=[0-6])(?=\s|$)")


@dataclass(frozen=True)
class BootOptions:
    """What ``kgdbpatch boot`` is told; None and nothing: not told.

    ``memory`` is QEMU's, in MiB, and ``announced`` what the kernel uses of it; ``timeout`` is how long to
    wait for ``ready``, in seconds; ``qemu`` are further arguments of QEMU.
    """

    machine: str | None = None
    kernel: Path | None = None
    initrd: Path | None = None
    append: str | None = None
    memory: int | None = None
    announced: int | None = None
    smp: int | None = None
    cpu: str | None = None
    drives: tuple[Path, ...] = ()
    ready: str | None = None
    timeout: float | None = None
    loader: str | None = None
    qemu: tuple[str, ...] = ()


def ordered(guest: str | None, options: BootOptions, name: str | None = None) -> Recipe:
    """Return the recipe of a guest: a known one, changed as ``options`` say, or one made from them alone.

    ``guest`` is a recipe's name or file. With a machine it may be any other word: what the guest is called.
    Raises `Misuse`, or `BadImage` for a kernel that is none.
    """
    check_arguments(options.qemu)
    if guest is None and options.machine is None:
        raise Misuse(
            "say what to boot: a recipe (kgdbpatch recipe show lists them), or --machine and --kernel; "
            f"machines: {', '.join(machines())}"
        )
    if guest is not None and (options.machine is None or is_recipe(guest)):
        return _changed(_found(guest), options, name)
    if options.kernel is None:
        raise Misuse("say which kernel to boot: --kernel FILE")
    image = _image(options.kernel)
    board = MachineDescription.load(str(options.machine))
    table: dict[str, Any] = {"personality": _personality(image), "boot": {"loader": _loader(image, board)}}
    chosen = name or guest or re.sub(r"[^A-Za-z0-9_-]+", "-", options.kernel.stem).strip("-") or "guest"
    return _merged(table, options, Path(f"{chosen}.toml").absolute(), image)


def _found(guest: str) -> Recipe:
    try:
        return Recipe.find(guest)
    except Misuse as error:
        if is_recipe(guest):
            raise
        raise Misuse(f"{error}; for a kernel of your own say --machine and --kernel") from error


def _changed(base: Recipe, options: BootOptions, name: str | None) -> Recipe:
    path = base.path.with_name(f"{name}.toml") if name else base.path
    if options == BootOptions():
        return base
    image = None if options.kernel is None else base.personality.checked(_image(options.kernel))
    return _merged(tomllib.loads(base.text), options, path, image)


def _image(path: Path) -> Image:
    from kgdbpatch.image import Image

    return Image.load(path)


def _personality(image: Image) -> str:
    found = detect(image).name
    return "bare" if found == "unknown" else found


def _loader(image: Image, board: MachineDescription) -> str:
    """Return how a kernel gets into memory: one of no known system is started where its file says."""
    if image.format == "mach-o":
        return "bootx"
    if image.format == "raw" or _personality(image) != "bare" or not board.starts_at_first_byte:
        return "qemu"
    first = min(segment.address for segment in image.segments)
    return "qemu" if image.entry == first and not first & _FIRST else "device"


def _merged(table: dict[str, Any], options: BootOptions, path: Path, image: Image | None) -> Recipe:
    table |= _given(
        kernel=_file(options.kernel),
        machine=_machine(options.machine),
        cpu=options.cpu,
        smp=options.smp,
        ready=options.ready,
        boot_deadline=options.timeout,
    )
    boot = {
        **table.get("boot", {}),
        **_given(initrd=_file(options.initrd), command_line=options.append, loader=options.loader),
    }
    _check_handed_over(str(boot.get("loader", "qemu")), options)
    boot["drives"] = [*boot.get("drives", ()), *map(_file, options.drives)]
    boot["args"] = [*boot.get("args", ()), *options.qemu]
    table["boot"] = {key: value for key, value in boot.items() if value not in ([], "")}
    table["memory_mib"], table["announced_mib"] = _plan(table, options, path)
    if "ready" not in table and image is not None:
        table["ready"] = _ready(table, image)
    try:
        text = written(table)
        text.encode()
    except UnicodeEncodeError as error:
        raise Misuse(f"a recipe is UTF-8 text, {error.object!r} is not") from error
    try:
        return Recipe.parse(text, path)
    except Misuse as error:  # there is no such file
        raise Misuse(str(error).removeprefix(f"recipe {path}: ")) from error


def _given(**values: object) -> dict[str, Any]:
    """Return the values that were given: all but None."""
    return {key: value for key, value in values.items() if value is not None}


def _check_handed_over(loader: str, options: BootOptions) -> None:
    for what, given, by in (
        ("initrd", options.initrd, _WITH_INITRD),
        ("command line", options.append, _WITH_COMMAND_LINE),
    ):
        if given is not None and loader in LOADERS and loader not in by:
            raise Misuse(f"the loader '{loader}' hands over no {what}")


def _file(path: Path | None) -> str | None:
    """Return a file's path as a recipe keeps it; raise `BadImage` when there is none."""
    if path is None:
        return None
    if not path.exists():
        raise BadImage(path, "no such file")
    return str(path.absolute())


def _machine(name: str | None) -> str | None:
    return str(Path(name).absolute()) if name is not None and name.endswith(".toml") else name


def _plan(table: dict[str, Any], options: BootOptions, path: Path) -> tuple[int, int]:
    """Return how much memory QEMU gives and how much of it the kernel uses, MiB.

    What the command line does not say is not known to be hidden.
    """
    machine = table.get("machine", "g3beige")
    board = MachineDescription.load(path.parent / machine if machine.endswith(".toml") else machine)
    step = max(LEAST, board.memory_step_mib)
    line, system = str(table["boot"].get("command_line", "")), str(table.get("personality", "bare"))
    used, known = options.announced or told(system, line), table.get("announced_mib")
    if used is None and _FILLED in line:
        known = known or MemoryPlan().announced
        memory = options.memory or table.get("memory_mib", known + step)
        if fits(memory, known) and memory - known == LEAST:
            return memory, known
        hidden = hiding(memory, 1)
        table["boot"]["command_line"] = line.replace(_FILLED, str(comfortable(hidden or memory)))
        return memory, hidden or memory
    if used is None and options.append is None and known is not None:
        used = known
    if used is None:
        memory = options.memory or min(-(-MemoryPlan().memory // step) * step, board.max_memory_mib)
        return memory, memory
    given = options.memory or (table.get("memory_mib") if known else None)
    memory = given or min(-(-used // step) * step + step, board.max_memory_mib)
    return memory, hiding(memory, used) or memory


def _ready(table: dict[str, Any], image: Image) -> str:
    """Return what a kernel prints when it is up, as far as that is known: of Linux; else its first line."""
    if table.get("personality") != "linux":
        return r"\S"
    quiet = _QUIET.search(str(table["boot"].get("command_line", "")))
    if quiet:
        raise Misuse(f"'{quiet[1]}' hides the line by which a Linux is known to be up: say --ready REGEX")
    for text, pattern in _READY.items():
        if any(text.encode() in section.data for section in image.sections):
            return pattern
    return r"\S"
