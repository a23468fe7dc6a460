"""The part of the facade that needs no guest, or only its name: which guests there are, and images."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kgdbpatch.errors import BadImage, KgdbPatchError, Misuse, TargetLost, UnknownGuest
from kgdbpatch.guests import Recipe, recipes
from kgdbpatch.image import Image
from kgdbpatch.interpreter import uncollected
from kgdbpatch.kernel.guessed import with_functions
from kgdbpatch.vm import runtime

if TYPE_CHECKING:
    from kgdbpatch.kernel.syslog import Log
    from kgdbpatch.types import KernelTypes
    from kgdbpatch.vm.console import Console
    from kgdbpatch.vm.qemu import Qemu

__all__ = [
    "Guest",
    "build_image",
    "guest",
    "image_path",
    "is_file",
    "known",
    "names",
    "open_console",
    "open_image",
    "open_log",
    "open_types",
    "profiles",
    "running",
    "shutdown",
]

profiles = recipes


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest as recorded, its ``state``, and the ``reason`` why that is not, or not only, ``running``."""

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
    """Return the guests, also dead ones not booted again, by name; it takes seconds to see a hang."""
    found = [_examined(record) for record in runtime.guests()]
    found += [_ended(record) for record in runtime.ended()]
    return sorted(found, key=lambda guest: guest.name)


def guest(name: str) -> Guest:
    """Return one of `known`; raise `UnknownGuest` when there is none of that name."""
    record = runtime.record(name, dead=True)
    return _examined(record) if record.alive() else _ended(record)


def _ended(record: runtime.GuestRecord) -> Guest:
    if record.attached is not None:
        return _guest(record, "ended", f"{record.gone}; 'kgdbpatch detach {record.name}' forgets it")
    return _guest(record, "ended", f"QEMU ended ({record.process().exit_text()})")


def _examined(record: runtime.GuestRecord) -> Guest:
    from kgdbpatch.kernel.attached_health import watch
    from kgdbpatch.vm.qemu import Qemu

    if record.damage or record.elsewhere() or "profile" not in record.metadata:
        return _guest(record, "running")
    try:
        recipe = Recipe.recorded(record.metadata)
    except Misuse as error:  # another version's guest, or one whose machine description has gone
        return _guest(record, "running", str(error))
    qemu = Qemu.of(record)
    try:
        found = watch(qemu, recipe, lambda: _load(str(record.metadata["kernel"]))).examine()
        endless = _endless(qemu, recipe) if found.state in ("running", "hung") else ""
    except TargetLost as error:  # it was shut down meanwhile
        return _guest(record, "ended", str(error))
    return _guest(record, found.state, "; ".join(filter(None, [found.reason, endless])))


def _endless(qemu: Qemu, recipe: Recipe) -> str:
    """Return what to tell of a guest's patches that are not left; nothing where that cannot be found out."""
    from kgdbpatch.component.arena import Arena
    from kgdbpatch.kernel import Kernel

    try:
        header = Arena.header(qemu.ram, recipe.memory.arena_at)
        if header is None or not header.slots:
            return ""
        with Kernel(qemu, recipe, _load(str(qemu.metadata["kernel"]))) as kernel:
            return kernel.endless()
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
    from kgdbpatch.kernel.syslog import Log
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
    """Tell whether the name of a kernel means a file, or what lies in RAM; a folder does not hide a guest."""
    there = os.path.exists(what) and not os.path.isdir(what)
    return "/" in what or what.startswith("memory:") or there


def open_image(what: str) -> Image:
    """Return the image that ``what`` means: a file's path, or else the name of a running guest.

    A guest's is its file's, and its modules. ``memory:NAME`` is the kernel as it lies in a guest's memory: of
    Linux by its own symbols, of Darwin with its extensions. Functions that nothing names are guessed.
    """
    if what.startswith("memory:"):
        return _in_memory(what.removeprefix("memory:"))
    if not is_file(what):
        try:
            record = runtime.record(what)
            return _with_modules(record, with_functions(_load(str(record.metadata["kernel"]))))
        except UnknownGuest as error:
            if "." not in what:
                raise UnknownGuest(f"'{what}' is no file, and {error}") from error
    if not os.path.exists(what) or os.path.isdir(what):
        raise BadImage(what, "a directory" if os.path.isdir(what) else "no such file")
    return with_functions(_load(what))


def open_types(what: str, file: Path | None = None) -> KernelTypes:
    """Return the types of the kernel that ``what`` means as in `open_image`, or of an object file.

    They are told by the debug information in ``file``, or in the kernel's own file or beside it.
    """
    from kgdbpatch.types import KernelTypes

    if what.startswith("memory:"):
        return KernelTypes.of(_in_memory(what.removeprefix("memory:")), file)
    if is_file(what) or "." in what:
        if not os.path.exists(what) or os.path.isdir(what):
            raise BadImage(what, "a directory" if os.path.isdir(what) else "no such file")
        return KernelTypes.of(what, file)
    try:
        record = runtime.record(what, dead=True)
    except UnknownGuest as error:
        raise UnknownGuest(f"'{what}' is no file, and {error}") from error
    return KernelTypes.of(str(record.metadata["kernel"]), file)


def _load(path: str) -> Image:
    with uncollected():
        image = Image.load(path)
        _ = image.functions
    return image


def _with_modules(record: runtime.GuestRecord, image: Image) -> Image:
    """Return a running guest's image with the modules that it has loaded."""
    from kgdbpatch.kernel.module_list import ModuleList
    from kgdbpatch.vm.qemu import Qemu

    qemu = Qemu.of(record)
    personality = Recipe.recorded(qemu.metadata).personality
    try:
        if not ModuleList(personality, image, qemu.ram.read).all():
            return image
    except BadImage:  # a damaged list: nothing on it is known
        return image
    from kgdbpatch.kernel.running import RunningText

    return RunningText(qemu, personality, image).images.image()


def _in_memory(name: str) -> Image:
    from kgdbpatch.image.memory import image_from_memory
    from kgdbpatch.kernel import Kernel
    from kgdbpatch.vm.qemu import Qemu

    qemu = Qemu.attach(name)
    if Recipe.recorded(qemu.metadata).personality.kernel_format != "mach-o":
        ram = qemu.ram  # reading it neither stops the guest nor asks it anything
        return image_from_memory(
            name, ((start, ram.read(start, end - start)) for start, end in ram.touched())
        )
    with Kernel.attach(name) as kernel:
        return with_functions(kernel.with_extensions())
