"""A guest of which places are called by name: the kernel's names, and those of its patches' payloads."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from kgdbpatch.errors import Misuse, UnknownSymbol
from kgdbpatch.image import Function
from kgdbpatch.kernel.guest import RunningGuest

if TYPE_CHECKING:
    from kgdbpatch.analysis.bits import BitUses
    from kgdbpatch.kernel.code_lines import CodeLine
    from kgdbpatch.kernel.kernel import Kernel
    from kgdbpatch.kernel.memory import GuestMemory
    from kgdbpatch.kernel.patch_names import PatchNames
    from kgdbpatch.kernel.places import Places

__all__ = ["NamedGuest"]

Functions = list[Function]


class NamedGuest(RunningGuest):
    """A running guest, its functions, and the names of its patches."""

    def __getitem__(self, site: str | int) -> Function:
        """Return the function around a site, usually given by its name."""
        function = self.image.function_at(self.resolve(site))
        if function is None:
            raise Misuse(f"'{site}' is no function")
        return function

    def resolve(self, site: str | int) -> int:
        """Return the address of a site: ``func``, ``func+0x18`` or a number."""
        return site if isinstance(site, int) else self.image.resolve(site)

    def functions(self, pattern: str = "*") -> Functions:
        """Return the functions that a glob names, with or without Darwin's ``_``, modules' too.

        >>> kernel.patch_all([function.address for function in kernel.functions("tcp_*")], count=True)
        """
        return self.image.matching(pattern)

    def patch_names(self) -> PatchNames:
        """Return what the patches are called, and the names that their payloads have, as they stand now."""
        from kgdbpatch.kernel.patch_names import PatchNames

        return PatchNames(self._component.arena(self._header().arena))

    def patch_id(self, word: str) -> int:
        """Return the id that a word means: a number, or what a patch is called; raise `Misuse`."""
        return self.patch_names().patch_id(word)

    def resolve_name(self, name: str) -> int:
        """Return the address of a place in the kernel, or of a patch's name: ``3:hits``, ``file:hits``."""
        with suppress(UnknownSymbol):
            return self.patch_names().find(name, self.image)[0]
        return self.image.resolve(name)

    @property
    def places(self) -> Places:
        """What is where in the guest by name and by address, patches as they stand now."""
        from kgdbpatch.kernel.places import Places

        return Places(self)

    @property
    def memory(self) -> GuestMemory:
        """The kernel's memory by address: read without a stop where that can be, written with care."""
        from kgdbpatch.kernel.memory import GuestMemory

        return GuestMemory(self)

    def symbolize(self, address: int) -> str:
        """Return what is at an address: the kernel's names, or those of the patches' payloads."""
        for one in self.patch_names().noted if self._text.header() else ():
            if one.record.body <= address < one.record.body + one.record.body_size:
                return one.symbolize(address)
        return self.image.symbolize(address)

    def disassemble(
        self, place: str | int, count: int | None = None, *, patched: bool = False
    ) -> list[CodeLine]:
        """Return code as instructions; ``place`` is a function, a place in one, or ``0x…..0x…``.

        It is the kernel's without patches, of whose sites each line tells; with ``patched`` what stands there
        now, followed by what the patches in it lead to. Raises `Misuse`, `MemoryFault`.

        >>> [line.text for line in kernel.disassemble("run_netisr", 2)]
        ['mflr r0', 'stw r0,8(r1)']
        """
        from kgdbpatch.kernel.disassembly import disassemble

        kernel: Kernel = self  # type: ignore[assignment]
        return disassemble(kernel, place, count, patched=patched)

    def bits(self, name: str | int) -> BitUses:
        """Return which bits of a word of flags the kernel's code tests, sets and clears, and which are free.

        The code is that which runs, without patches; modules are not looked at.

        >>> kernel.bits("netisr").free[:3]
        (0, 1, 3)
        """
        from kgdbpatch.kernel.flag_bits import flag_bits

        address = name if isinstance(name, int) else self.resolve_name(name)
        return flag_bits(self._image, self.words, address)
