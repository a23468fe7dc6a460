"""Put the kernel component into a guest that has none."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from kgdbpatch.errors import Refused, TargetTimeout, WrongKernel

if TYPE_CHECKING:
    from kgdbpatch.component import ComponentClient, Header
    from kgdbpatch.image import Image
    from kgdbpatch.kernel.reservation import Reservation
    from kgdbpatch.kernel.running import RunningText
    from kgdbpatch.vm.qemu import Qemu

__all__ = ["checked", "install", "wrong_kernel"]

_WRONG_KERNEL_SHARE = 0.05  # of the text's words: kernels modify fewer of them while they boot


def install(
    qemu: Qemu, image: Image, text: RunningText, component: ComponentClient, reservation: Reservation
) -> Header:
    """Install the component in hidden RAM, at addresses that the kernel leaves to us; return its header.

    Raises `Misuse` without hidden RAM, `WrongKernel` when ``image`` is not what runs, `Refused` (rule
    ``mapping``) when the arena cannot be mapped; the guest is as it was then.
    """
    differences = checked(qemu, image, text)
    cpus = qemu.cpus()
    if cpus > 1 and not component.several:
        raise Refused("mapping", f"the guest has {cpus} CPUs; the arena would be mapped for one only")
    try:
        arena = reservation.choose()
        pages = reservation.page_entries(component, arena)
        return component.install(arena, image.sha256, differences, pages)
    except (Refused, TargetTimeout):
        with suppress(TargetTimeout):  # nobody makes a system call: the first error says so
            reservation.give_back()
        raise


def checked(qemu: Qemu, image: Image, text: RunningText) -> dict[int, int]:
    """Return address ─► running word where a guest's text is not its image's.

    Raises `WrongKernel` when that is so at more places than a kernel changes itself.
    """
    differences = text.differences()
    total = sum(words.size for _, words in text.pieces())
    if len(differences) > _WRONG_KERNEL_SHARE * total:
        raise wrong_kernel(image, qemu.name, f"{len(differences)} of {total} words of code differ")
    return differences


def wrong_kernel(image: Image, name: str, why: str) -> WrongKernel:
    """Return the error that says that a guest runs another kernel than the image."""
    return WrongKernel(f"{image.path} is not the kernel that runs in '{name}': {why}")
