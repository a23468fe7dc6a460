"""Attach to a guest that somebody else started, and let go of it as it was."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

from kgdbpatch import personality
from kgdbpatch.component.borrow import without_anchors
from kgdbpatch.component.kernel_calls import pending
from kgdbpatch.component.uninstall import Before, changed, clear_notes, unmap, write_back
from kgdbpatch.errors import BadImage, DeadKernel, Misuse, Refused, TargetBusy, TargetTimeout
from kgdbpatch.guests import Recipe
from kgdbpatch.guests.attached import named_arena, recipe_for, unused_memory
from kgdbpatch.image import Image
from kgdbpatch.image.kallsyms import find_kallsyms
from kgdbpatch.image.raw import linux_contents
from kgdbpatch.kernel import unpatched
from kgdbpatch.kernel.install import checked, install
from kgdbpatch.kernel.kernel import Kernel
from kgdbpatch.kernel.lending import given_up, with_memory
from kgdbpatch.personality import MemoryPlan
from kgdbpatch.personality.base import MIB
from kgdbpatch.vm import runtime
from kgdbpatch.vm.attached import AttachedQemu
from kgdbpatch.vm.contact import meet
from kgdbpatch.vm.session import Session

__all__ = ["Detached", "attach", "detach"]

_LARGEST_KERNEL = 64 * MIB
_PATIENCE = 10.0  # seconds for threads to leave the patches that are taken out
_LOOK = 0.1  # seconds between two looks: nobody tells when a thread leaves


def attach(
    name: str,
    gdb: str,
    kernel: str | Path | None = None,
    *,
    qmp: str = "",
    console: str = "",
    arena: str = "",
    remote: bool = False,
    paused: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Kernel:
    """Attach to a guest and put the kernel component into it; the guest goes on, or stays paused.

    ``kernel`` is the file that runs in it, of a Linux that keeps its symbols None: it is found in memory.
    ``arena`` is a physical range (``START..END``) that the user knows to be unused; without it, RAM is taken
    that the kernel does not use by its own word. Where there is none `Kernel.unpatchable` says so. The others
    as for `kgdbpatch.vm.contact.meet`. Raises `WrongKernel` when the file's code is not what is in memory,
    what `meet` does; the guest is left as it was then.
    """
    image = None if kernel is None else Image.load(Path(kernel).absolute())
    progress("asking QEMU")
    qemu = meet(name, gdb=gdb, qmp=qmp, console=console, remote=remote, paused=paused)
    try:
        progress("looking at the kernel")
        return _begun(qemu, image or _in_memory(qemu), arena)
    except BaseException:
        shutil.rmtree(qemu.directory, ignore_errors=True)
        raise


def _in_memory(qemu: AttachedQemu) -> Image:
    """Return the Linux that lies in a guest's memory, kept as a raw binary in the guest's directory.

    What a client that died has left in its text is not the kernel's.
    """
    path = qemu.directory / "kernel.bin"
    memory = without_anchors(qemu.ram.read(0, min(qemu.ram.size, _LARGEST_KERNEL)))
    try:
        kallsyms = find_kallsyms(memory)
        if kallsyms is None:
            raise BadImage(path, "it keeps no symbols of itself")
        (kernel,) = linux_contents(path, memory, kallsyms, 0).segments
        path.write_bytes(memory[: (kernel.physical or 0) + kernel.size])
        return Image.load(path)
    except BadImage as error:
        raise Misuse("--kernel FILE is needed: no Linux that keeps its symbols is found in memory") from error


def _begun(qemu: AttachedQemu, image: Image, arena: str) -> Kernel:
    kind = personality.detect(image).name
    if kind == "unknown" and image.format in ("elf", "raw"):
        kind = "linux" if image.path.parent == qemu.directory else "bare"
    size = qemu.attachment.ram_size
    whole = MemoryPlan(size // MIB, size // MIB)
    with Kernel(qemu, recipe_for(personality.personality(kind, whole)), image) as seen:
        if not seen._text.pieces():
            raise BadImage(image.path, "nothing tells where in memory its code lies")
        checked(qemu, image, seen._text)
        plan, nothing = _plan(seen, arena)
    recipe = recipe_for(personality.personality(kind, plan or whole))
    known = recipe.personality
    metadata: dict[str, object] = {
        "profile": kind,
        "personality": kind,
        "memory": asdict(known.memory),
        "kernel": str(image.path),
        "sha256": image.sha256,
        "vitals": asdict(known.vitals(image)),
    }
    record = replace(qemu.record, metadata=metadata)
    record.save()
    kept = AttachedQemu(record, record.process())
    kernel = Kernel(kept, recipe, image)
    try:
        if nothing is not None:
            kernel = _lent(kernel, nothing)
        if kernel.unpatchable is None:
            _install(kernel)
    except BaseException:
        kernel.close()
        raise
    return kernel


def _plan(kernel: Kernel, arena: str) -> tuple[MemoryPlan | None, Refused | None]:
    """Return where patches are to lie, or why nothing is known to be free for them."""
    qemu = cast(AttachedQemu, kernel.qemu)
    size, used = qemu.attachment.ram_size, kernel._personality.used_memory(kernel._image, qemu.ram.read)
    if arena:
        plan = named_arena(arena, size)
        if used is not None and used > plan.announced * MIB:
            told = f"--arena {arena}: the kernel uses its RAM up to 0x{used:x}, by its own word"
            raise Refused("memory", told)
        return plan, None
    found = None if used is None else unused_memory(size, used)
    if found is not None:
        return found, None
    told = (
        "how much of it the kernel uses is not known" if used is None else f"the kernel uses 0x{used:x} of it"
    )
    return None, Refused(
        "memory",
        f"there is no memory for patches: the guest has 0x{size:x} bytes of RAM, {told}, and 32 MiB or more "
        "at a multiple of their size must be unused; 'mem=' (Linux) or 'maxmem=' (Darwin) leaves some, "
        "--arena START..END names some",
    )


def _lent(kernel: Kernel, nothing: Refused) -> Kernel:
    """Have the kernel lend memory for patches where it leaves none unused; or note why it does not."""
    with kernel.qemu.exclusive(kernel._wait):
        try:
            return with_memory(kernel, str(nothing))
        except (Refused, TargetTimeout) as error:
            if isinstance(error, TargetBusy):
                raise
            unpatched.note(kernel.qemu, error)
            return kernel


def _install(kernel: Kernel) -> None:
    """Put the component in; where the kernel leaves no addresses for it, note that."""
    qemu, component = kernel.qemu, kernel._component
    before = Before(qemu.directory)
    with qemu.exclusive(kernel._wait):
        if kernel._text.header() is not None:
            raise Misuse(
                "the guest carries a kernel component already: another kgdbpatch booted it or is attached"
            )
        with kernel._awake().stopped() as session:
            before.keep(qemu.ram, kernel._text.arena, kernel._cpu.page_table(session))
            clear_notes(session.write_physical, qemu.ram, kernel._text.arena, kernel._cpu.code)
        try:
            header = install(qemu, kernel._image, kernel._text, component, kernel._reservation)
        except BaseException as error:
            if pending(qemu.ram, kernel._text.arena.physical) is not None:
                raise  # a thread comes back to what was written there
            with kernel._awake().stopped() as session:
                _release(kernel, session)
                write_back(session.write_physical, changed(qemu.ram, kernel._text.arena, before))
            if kernel._personality.memory.borrowed:
                given_up(kernel._lender)
            if not isinstance(error, Refused | TargetTimeout) or isinstance(error, TargetBusy):
                raise
            unpatched.note(qemu, error)
        else:
            before.keep_state(component.state(header.arena).tobytes())


@dataclass(frozen=True, slots=True)
class Detached:
    """What `detach` did: how many patches were taken out, and whether the guest is as it was.

    ``reason`` says why it is not, or that it has ended.
    """

    name: str
    pid: int
    removed: int
    restored: bool
    reason: str = ""


def detach(name: str, *, force: bool = False, wait: float = 10.0) -> Detached:
    """Take patches and component out of a guest that was attached to, and forget it; it goes on as it did.

    A guest that has ended, or whose kernel is dead, is only forgotten. Raises `Misuse` for one that
    kgdbpatch booted, `Refused` naming a patch that is damaged or that a thread does not leave: nothing is
    forgotten then. ``force`` drops the records of damaged ones.
    """
    record = runtime.record(name, dead=True)
    if record.attached is None:
        raise Misuse(f"guest '{name}' was booted by kgdbpatch: 'kgdbpatch shutdown {name}' ends it")
    told = Detached(name, record.pid, 0, restored=True)
    if not record.alive():
        told = replace(told, restored=False, reason=record.gone)
    elif "personality" in record.metadata:
        qemu = AttachedQemu(record, record.process())
        recipe = Recipe.recorded(record.metadata)
        with Kernel(qemu, recipe, Image.load(str(record.metadata["kernel"])), wait=wait) as kernel:
            try:
                if kernel.unpatchable is None:
                    told = replace(told, removed=_taken_out(kernel, force))
                else:
                    _given_back(kernel)
            except DeadKernel as error:
                told = replace(told, restored=False, reason=f"{error}: what is in its memory was left there")
    (record.directory / "guest.json").unlink(missing_ok=True)  # first: it needs the other files
    shutil.rmtree(record.directory, ignore_errors=True)
    return told


def _taken_out(kernel: Kernel, force: bool) -> int:
    """Take everything out; return how many patches there were."""
    _paused(kernel)
    kernel.assure_alive()
    if not kernel._personality.memory.arena_size:  # somebody died before he had any
        _given_back(kernel)
        return 0
    before, ram, lent = Before(kernel.qemu.directory), kernel.qemu.ram, kernel._personality.memory.borrowed
    removed = len(kernel.records())
    until = time.monotonic() + _PATIENCE
    while held := (kernel.remove_all(force=force) if kernel.records() else []):
        if time.monotonic() > until or kernel.health.state == "paused":
            raise Refused("memory", _why(kernel, held[0]))
        time.sleep(_LOOK)
    with kernel._exclusive():
        header = kernel._text.header()
        if header is not None:  # else somebody died when it had come so far
            if header.hook is not None:
                raise Refused("memory", "a CPU is where traps are looked up; detach again")
            if kernel._reservation.kept():
                _assure_runs(kernel, "keeps addresses for us")
            unmap(kernel._component, kernel._cpu, ram, header, before)
            kernel._reservation.give_back()
        ours = kernel._lender.ours() if lent else bool(changed(ram, kernel._text.arena, before))
        if ours and header is None and (lent or before.kept):
            kernel._reservation.give_back()
        if ours:  # else somebody died when he had not begun, or had come to the end
            with kernel._awake().stopped() as session:
                _release(kernel, session)
                write_back(session.write_physical, changed(ram, kernel._text.arena, before))
    _given_back(kernel)
    return removed


def _given_back(kernel: Kernel) -> None:
    """Give back what the kernel has lent us, be it to somebody who died before he could note it."""
    lender, memory = kernel._lender, kernel._personality.memory
    if not lender.lent() and memory.arena_size:
        return
    with kernel._exclusive():
        if not lender.lent():
            lender.give_back()  # what was made for it, by somebody who died before he was lent any
            return
        if not memory.borrowed and lender.in_use():
            return  # another's
        _assure_runs(kernel, "has lent us memory")
        lender.give_back()


def _paused(kernel: Kernel) -> bool:
    """Tell whether the guest is paused; one that a killed debugger left stopped goes on."""
    if kernel.qemu.runs():
        return False
    with kernel._awake().stopped() as session:
        return session.stays_stopped


def _assure_runs(kernel: Kernel, what: str) -> None:
    """Raise `Refused` for a guest that is paused."""
    if _paused(kernel):
        told = f"the kernel {what}, which one that is paused cannot take back; let it run"
        raise Refused("memory", told)


def _release(kernel: Kernel, session: Session) -> None:
    """Have no CPU keep anything that calls of the stub needed."""
    for number in range(session.cpus):
        session.select(number)
        kernel._cpu.release(session, kernel._text.arena.physical)


def _why(kernel: Kernel, id: int) -> str:
    row = next(row for row in kernel.patch_table() if row.id == id)
    who = ", ".join(f"{holder.by} at 0x{holder.address:08x}" for holder in row.held_by) or "a thread"
    place = kernel.image.symbolize(row.site)
    return f"patch {id} at {place} is out, but {who} is still inside; let the guest run and detach again"
