"""How QEMU is given a kernel, by the recipe's ``loader``, and disks that it cannot write to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kgdbpatch.errors import BadImage
from kgdbpatch.image.uimage import MAGIC as _UIMAGE
from kgdbpatch.image.unwrap import unwrap
from kgdbpatch.personality.base import MIB
from kgdbpatch.vm.disks import overlay

if TYPE_CHECKING:
    from kgdbpatch.guests.recipe import Recipe

__all__ = ["drive_args", "loader_args"]

_ELF = b"\x7fELF"
_UNPACKED = "boot-kernel.bin"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadImage(path, error.strerror or str(error)) from error


def _kind(data: bytes) -> str:
    return "elf" if data.startswith(_ELF) else "uimage" if data.startswith(_UIMAGE) else "raw"


def _placed(directory: Path, data: bytes) -> Path:
    path = directory / _UNPACKED
    path.write_bytes(data)
    return path


def _fitting(recipe: Recipe, kernel: Path, directory: Path) -> Path:
    """Return the file that the board boots: the user's own, or what is inside of it.

    What is inside goes first, as firmware that unpacks things is not there. Raises `BadImage` where the
    board takes neither.
    """
    data = _read(kernel)
    inner = unwrap(kernel, data)
    machine = recipe.machine
    if _kind(inner.data) in machine.kernels:
        return kernel if inner.data == data else _placed(directory, inner.data)
    if _kind(data) in machine.kernels:
        return kernel
    if _kind(inner.data) == "elf" and "raw" in machine.kernels:
        return _placed(directory, _flat(kernel))
    taken = " or ".join(machine.kernels)
    raise BadImage(
        kernel, f"machine '{machine.name}' boots {taken} files, this is {_kind(inner.data)} inside"
    )


def _flat(kernel: Path) -> bytes:
    """Return what an ELF kernel's memory holds, from its first byte on, where it starts; or `BadImage`."""
    from kgdbpatch.image import Image

    image = Image.load(kernel)
    held = [section for section in image.sections if section.data]
    first = min(section.address for section in held)
    if image.entry != first:
        raise BadImage(
            kernel, "it starts elsewhere than at its first byte, where this machine would start it"
        )
    memory = bytearray(max(section.address + len(section.data) for section in held) - first)
    for section in held:
        at = section.address - first
        memory[at : at + len(section.data)] = section.data
    return bytes(memory)


def _linux_style(recipe: Recipe, kernel: Path, command_line: str) -> list[str]:
    initrd = recipe.initrd()
    given = []
    if initrd is not None:
        _check_sizes(recipe, kernel, initrd)
        given = ["-initrd", str(initrd)]
    return ["-kernel", str(kernel), *given, *(["-append", command_line] if command_line else [])]


def _check_sizes(recipe: Recipe, kernel: Path, initrd: Path) -> None:
    """Raise `BadImage` when an initrd is not there or does not fit beside the kernel."""
    try:
        size = initrd.stat().st_size
        initrd.open("rb").close()
    except OSError as error:
        raise BadImage(initrd, error.strerror or str(error)) from error
    announced = recipe.memory.announced
    if size >= announced * MIB or size + _loaded(kernel) > announced * MIB:
        raise BadImage(
            initrd,
            f"an initrd of {-(-size // MIB)} MiB does not fit beside the kernel into {announced} MiB",
        )


def _loaded(kernel: Path) -> int:
    """Return how many bytes of a kernel's file are loaded, at least."""
    from kgdbpatch.image import Image

    try:
        return sum(len(segment.data) for segment in Image.load(kernel).segments)
    except BadImage:  # given as it is, whatever it is
        return 0


def _by_device(kernel: Path, directory: Path) -> list[str]:
    data = _read(kernel)
    inner = unwrap(kernel, data)
    path = kernel if inner.data == data else _placed(directory, inner.data)
    name = str(path).replace(",", ",,")
    if _kind(inner.data) == "elf":
        return ["-device", f"loader,file={name},cpu-num=0"]
    if inner.load is None or inner.entry is None:
        raise BadImage(kernel, "nothing says where it is to be loaded; an ELF file or a uImage does")
    return [
        *("-device", f"loader,file={name},addr=0x{inner.load:x},force-raw=on"),
        *("-device", f"loader,addr=0x{inner.entry:x},cpu-num=0"),
    ]


def loader_args(recipe: Recipe, kernel: Path, directory: Path, command_line: str) -> list[str]:
    """Return QEMU's arguments that boot ``kernel`` as the recipe says; or raise `BadImage`."""
    match recipe.boot.loader:
        case "qemu":
            return _linux_style(recipe, _fitting(recipe, kernel, directory), command_line)
        case "as-is":
            return _linux_style(recipe, kernel, command_line)
        case "bootx":
            from kgdbpatch.guests import booter

            return booter.loader_args(kernel, directory, recipe.memory.memory * MIB, command_line)
        case "device":
            return _by_device(kernel, directory)
        case _:  # firmware, which has its kernel on a disk
            return []


def drive_args(recipe: Recipe, directory: Path) -> list[str]:
    """Return QEMU's arguments for the recipe's disks: overlays of their files, kept in ``directory``."""
    words = []
    for number, path in enumerate(recipe.drives()):
        made = overlay(path, directory / f"disk{number}.qcow2")
        name = str(made).replace(",", ",,")
        how = recipe.machine.drive
        words += ["-drive", ",".join(filter(None, [f"file={name}", "format=qcow2", how]))]
    return words
