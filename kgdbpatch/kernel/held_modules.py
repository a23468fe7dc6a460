"""Keep modules and extensions loaded whose names payloads use; tell of those that went all the same."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from kgdbpatch.errors import BadImage, MemoryFault, Refused
from kgdbpatch.image.kmods import loaded_extensions

if TYPE_CHECKING:
    from kgdbpatch.component import Header
    from kgdbpatch.image.kmods import Extension
    from kgdbpatch.kernel.kernel import Kernel

__all__ = ["Held", "counts", "extensions_of", "give_back", "gone", "handle_of", "hold"]

_TAKE, _GIVE = "try_module_get", "module_put"  # Linux, kernel/module
_TRIES = 4
_COUNT = 140  # offset of kmod_info_t's reference_count (osfmk/mach/kmod.h)


class Held(NamedTuple):
    """A module or extension, by its name and the address of its structure."""

    name: str
    handle: int


def handle_of(kernel: Kernel, module: str) -> Held:
    """Return what is to be held; raise `Refused` (rule ``module``) where this kernel does not let it be."""
    for one in kernel.modules():
        if one.name == module:
            missing = [name for name in (_TAKE, _GIVE) if not kernel.image.knows(name)]
            if missing or not kernel._calls.possible():
                why = f"has no {missing[0]}" if missing else "cannot be called"
                told = f"the payload uses names of {module}, and this kernel {why}, to keep it loaded"
                raise Refused("module", told)
            return Held(module, one.handle)
    for extension in extensions_of(kernel):
        if extension.name == module:
            return Held(module, extension.info)
    raise Refused("module", f"the module '{module}' was unloaded just now")


def extensions_of(kernel: Kernel) -> list[Extension]:
    """Return what a Darwin has loaded; the guest is not stopped. Raises `BadImage` for a damaged list."""

    def read(address: int, size: int) -> bytes:
        found = kernel._threads.read(address, size)
        if found is None:
            raise MemoryFault(f"no memory at 0x{address:08x}", address)
        return found

    for _ in range(_TRIES):
        with suppress(BadImage):  # it may be being changed
            return loaded_extensions(kernel._image, read)
    return loaded_extensions(kernel._image, read)


def hold(kernel: Kernel, header: Header, held: Held) -> None:
    """Take a reference of a module; raise `Refused` where it is being unloaded."""
    if counts(kernel):
        _count(kernel, header, held, 1)
        return
    if not kernel._calls.own(kernel.image.resolve(_TAKE), held.handle) & 0xFF:
        raise Refused("module", f"the module '{held.name}' is being unloaded")


def give_back(kernel: Kernel, header: Header, held: Held) -> None:
    """Give a reference back."""
    if counts(kernel):
        _count(kernel, header, held, -1)
    else:
        kernel._calls.own(kernel.image.resolve(_GIVE), held.handle)


def counts(kernel: Kernel) -> bool:
    """Tell whether references are counted by us (a Darwin's), and not by functions of the kernel's."""
    return not kernel.image.knows(_TAKE)


def _count(kernel: Kernel, header: Header, held: Held, change: int) -> None:
    with kernel._component.stop(header.arena, anywhere=True) as stop:
        if held not in _listed(kernel):
            if change > 0:
                raise Refused("module", f"the extension '{held.name}' was unloaded just now")
            return
        at = kernel._threads.physical(held.handle + _COUNT)
        assert at is not None  # it was read a moment ago
        count = int.from_bytes(kernel._qemu.ram.read(at, 4), "big")
        stop.write(at, max(count + change, 0).to_bytes(4, "big"))


def _listed(kernel: Kernel) -> set[Held]:
    """Return all that is loaded, without a stop; raise `BadImage`."""
    if not counts(kernel):
        return {Held(one.name, one.handle) for one in kernel.modules()}
    return {Held(one.name, one.info) for one in extensions_of(kernel)}


def gone(kernel: Kernel, held: Sequence[Held]) -> tuple[str, ...]:
    """Return the names of those that are loaded no more, as far as that can be told."""
    try:
        there = _listed(kernel) if held else set()
    except BadImage:  # it is being changed
        return ()
    return tuple(one.name for one in held if one not in there)
