"""What works on one running guest, what does not, and why; nothing of it is changed by asking."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from kgdbpatch.errors import KgdbPatchError
from kgdbpatch.guests import Recipe
from kgdbpatch.image import Image
from kgdbpatch.kernel.attached_health import watch
from kgdbpatch.kernel.kernel import Kernel
from kgdbpatch.personality.base import MIB
from kgdbpatch.vm.attached import AttachedQemu
from kgdbpatch.vm.qemu import Qemu
from kgdbpatch.vm.registers import Layout
from kgdbpatch.vm.server import is_local

__all__ = ["Trait", "examine"]

_RAM = {
    "process": "read in QEMU's own memory, without a stop",
    "monitor": "read by QEMU's monitor (pmemsave)",
    "stops": "read by the debugger",
}


@dataclass(frozen=True, slots=True)
class Trait:
    """One thing that a guest has or can do: whether it ``works``, what was ``found``, and why it does not.

    ``reason`` may also tell what is less than it could be of something that works.
    """

    topic: str
    works: bool
    found: str
    reason: str = ""


def examine(name: str) -> list[Trait]:
    """Return what is to be known of a running guest.

    Raises `UnknownGuest`, or `TargetLost` when it has ended.
    """
    qemu = Qemu.attach(name)
    recipe = Recipe.recorded(qemu.metadata)
    image = Image.load(str(qemu.metadata["kernel"]))
    kernel = Kernel(qemu, recipe, image)
    questions: list[tuple[str, Callable[[], Trait]]] = [
        ("health", lambda: _health(qemu, recipe, image)),
        ("debugger", lambda: _debugger(qemu)),
        ("cpu", lambda: _cpu(kernel)),
        ("kernel", lambda: _kernel(kernel)),
        ("symbols", lambda: _symbols(image)),
        ("ram", lambda: _ram(qemu)),
        ("patches", lambda: _patches(kernel)),
        ("threads", lambda: _threads(kernel)),
        ("log", lambda: _log(qemu, recipe)),
        ("paused", lambda: _paused(qemu)),
        ("hangs", lambda: _hangs(qemu)),
        ("resets", lambda: _resets(qemu)),
        ("snapshots", lambda: _snapshots(qemu)),
    ]
    try:
        return [_answered(topic, answer) for topic, answer in questions]
    finally:
        kernel.close()


def _answered(topic: str, answer: Callable[[], Trait]) -> Trait:
    try:
        return answer()
    except KgdbPatchError as error:
        return Trait(topic, works=False, found="", reason=str(error))


def _health(qemu: Qemu, recipe: Recipe, image: Image) -> Trait:
    found = watch(qemu, recipe, lambda: image).examine()
    return Trait("health", not found.dead, found.state, found.reason)


def _debugger(qemu: Qemu) -> Trait:
    if not qemu.foreign:
        return Trait("debugger", works=True, found="a socket of this user's alone")
    server = cast(AttachedQemu, qemu).attachment.gdb
    risk = "" if is_local(server) else "it is another host's: it asks nobody who he is, and all can be read"
    return Trait("debugger", works=True, found=f"QEMU's GDB server at {server}", reason=risk)


def _cpu(kernel: Kernel) -> Trait:
    layout, cpus = Layout.load(kernel.qemu.directory), kernel.qemu.cpus()
    pvr = "not known" if layout is None else f"0x{layout.pvr:08x}"
    model = kernel._cpu.model or "its plain model"
    found = f"family {kernel._cpu.name} ({model}), PVR {pvr}, {cpus} of them"
    return Trait("cpu", works=True, found=found)


def _kernel(kernel: Kernel) -> Trait:
    differ, pieces = kernel._text.differences(), kernel._text.pieces()
    if not pieces:
        return Trait(
            "kernel", works=False, found=kernel.profile, reason="it is not known where its code lies"
        )
    found = f"{kernel._personality.name}, {sum(words.size for _, words in pieces)} words of code"
    return Trait("kernel", works=True, found=f"{found}, {len(differ)} of them changed since it was built")


def _symbols(image: Image) -> Trait:
    count = len(image.functions)
    if not count:
        return Trait("symbols", works=False, found="", reason=f"{image.path} names no functions")
    return Trait("symbols", works=True, found=f"{count} functions, of {image.path}")


def _ram(qemu: Qemu) -> Trait:
    size = f"{qemu.ram.size // MIB} MiB"
    if not qemu.foreign:
        return Trait("ram", works=True, found=f"{size}, read in a file that QEMU shares, without a stop")
    known = cast(AttachedQemu, qemu).attachment
    stops = "" if qemu.ram.live else "; each look stops the guest"
    return Trait("ram", works=True, found=f"{size}, {_RAM[known.ram]}{stops}", reason=known.ram_reason)


def _patches(kernel: Kernel) -> Trait:
    if kernel.unpatchable is not None:
        return Trait("patches", works=False, found="", reason=kernel.unpatchable)
    header = kernel._header()
    plan, arena = header.arena, kernel._component.arena(header.arena)
    found = (
        f"in RAM that the kernel does not use: {plan.size // MIB} MiB at physical 0x{plan.physical:08x}, "
        f"seen at 0x{plan.virtual:08x}; {len(arena.table())} patches"
    )
    return Trait("patches", works=True, found=found)


def _threads(kernel: Kernel) -> Trait:
    count = sum(1 for _ in kernel._threads.all())
    if count:
        return Trait("threads", works=True, found=f"{count} threads are known by name")
    why = "the kernel's threads are not known: memory of patches stays until nothing in RAM points into it"
    return Trait("threads", works=False, found="", reason=why)


def _log(qemu: Qemu, recipe: Recipe) -> Trait:
    console = qemu.console  # raises where nobody knows it
    path = (
        cast(AttachedQemu, qemu).attachment.console if qemu.foreign else console.size() and "QEMU's log of it"
    )
    found = f"the console, by {path or 'a log of it that is empty'}"
    known = recipe.personality.name not in ("bare", "unknown")
    return Trait(
        "log", works=True, found=found, reason="" if known else "what its lines look like is not known"
    )


def _paused(qemu: Qemu) -> Trait:
    if not qemu.foreign:
        return Trait("paused", works=True, found="told by QEMU's events")
    known = cast(AttachedQemu, qemu).attachment
    if known.qmp:
        return Trait("paused", works=True, found="told by QEMU's monitor")
    if qemu.pid and known.threads:
        return Trait("paused", works=True, found="told by the processor time that the virtual CPUs use")
    taken = "paused" if known.paused else "running"
    why = f"QEMU's process is not seen and there is no --qmp: it is taken for {taken}, as attach was told"
    return Trait("paused", works=False, found="", reason=why)


def _hangs(qemu: Qemu) -> Trait:
    if qemu.observable:
        return Trait("hangs", works=True, found="told by looks at the CPUs while they run")
    why = "attached to without --qmp: a kernel or patch that goes on for ever is not told"
    return Trait("hangs", works=False, found="", reason=why)


def _resets(qemu: Qemu) -> Trait:
    if not qemu.foreign:
        return Trait("resets", works=True, found="told by QEMU's events")
    why = "nobody keeps a log of this QEMU's events: 'verify' finds the patches gone"
    return Trait("resets", works=False, found="", reason=why)


def _snapshots(qemu: Qemu) -> Trait:
    if not qemu.foreign:
        return Trait("snapshots", works=True, found="kept in a drive of the guest's")
    return Trait("snapshots", works=False, found="", reason=str(cast(AttachedQemu, qemu).no_snapshots()))
