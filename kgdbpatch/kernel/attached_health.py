"""How a kernel is in a guest that somebody else started: as far as that can be seen without a stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from kgdbpatch.errors import KgdbPatchError
from kgdbpatch.guests import Recipe
from kgdbpatch.image import Image
from kgdbpatch.kernel.health import Health, Watch
from kgdbpatch.vm.attached import AttachedQemu
from kgdbpatch.vm.qemu import Qemu

__all__ = ["AttachedWatch", "watch"]


def watch(
    qemu: Qemu, recipe: Recipe, image: Callable[[], Image], place: Callable[[int], str] | None = None
) -> Watch:
    """Return what watches a guest."""
    return (AttachedWatch if qemu.foreign else Watch)(qemu, recipe, image, place)


class AttachedWatch(Watch):
    """Watch a guest of whose events nobody keeps a log.

    A reset is not told. Whether the kernel hangs is not either without a monitor or where its memory is read
    by stops, nor that it has panicked where its console is not known and no word of its memory says so.
    """

    def glance(self) -> Health:
        """Tell what is known without waiting long: by QEMU's monitor, or by what its virtual CPUs use."""
        qemu = cast(AttachedQemu, self._qemu)
        found = super().glance()
        if found.state != "running" or found.reason:
            return found
        if not qemu.attachment.listens():
            return Health("running", f"its GDB server at {qemu.attachment.gdb} is closed", "", found.oopses)
        try:
            runs = qemu.runs()
        except KgdbPatchError as error:
            return Health("running", f"whether it is paused cannot be asked: {error}", "", found.oopses)
        return found if runs else Health("paused", "it was found so", "", found.oopses)

    def _has_panicked(self) -> bool:
        return (self._qemu.ram.live and super()._has_panicked()) or bool(self._panic)

    def _counts(self) -> bool:
        return not self._qemu.ram.live or super()._counts()

    def _observe(self, *, need_line: bool) -> str | None:
        """Return why the kernel seems to hang; None where it does something, or nobody can be asked."""
        return super()._observe(need_line=need_line) if self._qemu.observable else None
