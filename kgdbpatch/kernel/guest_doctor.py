"""What works on one running guest, what does not, and why; nothing of it is changed by asking."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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

_Answer = tuple[bool, str, str]  # of a `Trait`: works, found, reason
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
    with Kernel(qemu, recipe, image) as kernel:
        questions: list[tuple[str, Callable[[], _Answer]]] = [
            ("health", lambda: _health(qemu, recipe, image)),
            ("debugger", lambda: _debugger(qemu)),
            ("cpu", lambda: _cpu(kernel)),
            ("kernel", lambda: _kernel(kernel)),
            ("symbols", lambda: _symbols(kernel)),
            ("ram", lambda: _ram(qemu)),
            ("patches", lambda: _patches(kernel)),
            ("threads", lambda: _threads(kernel)),
            ("log", lambda: _log(qemu, recipe)),
            ("paused", lambda: _paused(qemu)),
            ("hangs", lambda: _hangs(qemu)),
            ("resets", lambda: _resets(qemu)),
            ("snapshots", lambda: _snapshots(qemu, kernel)),
        ]
        return [_answered(topic, answer) for topic, answer in questions]


def _answered(topic: str, answer: Callable[[], _Answer]) -> Trait:
    try:
        return Trait(topic, *answer())
    except KgdbPatchError as error:
        return Trait(topic, *_no(str(error)))


def _yes(found: str, reason: str = "") -> _Answer:
    return True, found, reason


def _no(reason: str, found: str = "") -> _Answer:
    return False, found, reason


def _health(qemu: Qemu, recipe: Recipe, image: Image) -> _Answer:
    found = watch(qemu, recipe, lambda: image).examine()
    return not found.dead, found.state, found.reason


def _debugger(qemu: Qemu) -> _Answer:
    if not isinstance(qemu, AttachedQemu):
        return _yes("a socket of this user's alone")
    server = qemu.attachment.gdb
    risk = "" if is_local(server) else "it is another host's: it asks nobody who he is, and all can be read"
    return _yes(f"QEMU's GDB server at {server}", risk)


def _cpu(kernel: Kernel) -> _Answer:
    layout, cpus = Layout.load(kernel.qemu.directory), kernel.qemu.cpus()
    pvr = "not known" if layout is None else f"0x{layout.pvr:08x}"
    model = kernel._cpu.model or "its plain model"
    return _yes(f"family {kernel._cpu.name} ({model}), PVR {pvr}, {cpus} of them")


def _kernel(kernel: Kernel) -> _Answer:
    differ, pieces = kernel._text.differences(), kernel._text.pieces()
    if not pieces:
        return _no("it is not known where its code lies", kernel.profile)
    found = f"{kernel._personality.name}, {sum(words.size for _, words in pieces)} words of code"
    return _yes(f"{found}, {len(differ)} of them changed since it was built")


def _symbols(kernel: Kernel) -> _Answer:
    image = kernel.image
    functions = [*image.functions]
    guessed = sum(1 for function in functions if function.guessed)
    if not functions:
        return _no(f"{image.path} names no functions, and none is recognised")
    told = f"{guessed} of them are guessed: no symbol names them" if guessed else ""
    return _yes(f"{len(functions)} functions, of {image.path}", told)


def _ram(qemu: Qemu) -> _Answer:
    size = f"{qemu.ram.size // MIB} MiB"
    if not isinstance(qemu, AttachedQemu):
        return _yes(f"{size}, read in a file that QEMU shares, without a stop")
    stops = "" if qemu.ram.live else "; each look stops the guest"
    return _yes(f"{size}, {_RAM[qemu.attachment.ram]}{stops}", qemu.attachment.ram_reason)


def _patches(kernel: Kernel) -> _Answer:
    if kernel.unpatchable is not None:
        return _no(kernel.unpatchable)
    header = kernel._header()
    plan, arena = header.arena, kernel._component.arena(header.arena)
    size, where = f"{plan.size // MIB} MiB", f"at physical 0x{plan.physical:08x}"
    found = f"in RAM that the kernel does not use: {size} {where}"
    lent = kernel._personality.memory.borrowed
    if lent:
        call = kernel._personality.allocation(kernel._image, plan.size)
        by = "" if call is None else f" by {kernel._image.symbolize(call.function)}"
        found = f"memory: the kernel's own allocator ({size}{by}) {where}"
    less = "no RAM is hidden from the kernel, which would give more room" if lent else ""
    return _yes(f"{found}, seen at 0x{plan.virtual:08x}; {len(arena.table())} patches", less)


def _threads(kernel: Kernel) -> _Answer:
    if count := sum(1 for _ in kernel._threads.all()):
        return _yes(f"{count} threads are known by name")
    return _no(
        "the kernel's threads are not known: memory of patches stays until nothing in RAM points into it"
    )


def _log(qemu: Qemu, recipe: Recipe) -> _Answer:
    path = "QEMU's log of it" if qemu.console.size() else ""  # raises where nobody knows the console
    if isinstance(qemu, AttachedQemu):
        path = qemu.attachment.console
    known = recipe.personality.name not in ("bare", "unknown")
    found = f"the console, by {path or 'a log of it that is empty'}"
    return _yes(found, "" if known else "what its lines look like is not known")


def _paused(qemu: Qemu) -> _Answer:
    if not isinstance(qemu, AttachedQemu):
        return _yes("told by QEMU's events")
    known = qemu.attachment
    if known.qmp:
        return _yes("told by QEMU's monitor")
    if qemu.pid and known.threads:
        return _yes("told by the processor time that the virtual CPUs use")
    taken = "paused" if known.paused else "running"
    return _no(
        f"QEMU's process is not seen and there is no --qmp: it is taken for {taken}, as attach was told"
    )


def _hangs(qemu: Qemu) -> _Answer:
    if qemu.observable:
        return _yes("told by looks at the CPUs while they run")
    return _no("attached to without --qmp: a kernel or patch that goes on for ever is not told")


def _resets(qemu: Qemu) -> _Answer:
    if not qemu.foreign:
        return _yes("told by QEMU's events")
    return _no("nobody keeps a log of this QEMU's events: 'verify' finds the patches gone")


def _snapshots(qemu: Qemu, kernel: Kernel) -> _Answer:
    if not kernel._cpu.restorable:
        return _no(f"QEMU does not bring the saved state of a {kernel._cpu.name} back")
    if not isinstance(qemu, AttachedQemu):
        return _yes("kept in a drive of the guest's")
    return _no(str(qemu.no_snapshots()))
