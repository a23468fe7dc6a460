"""A guest whose kernel's functions are called from outside, by their prototypes where these are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from kgdbpatch.kernel.snapshots import Restorable
from kgdbpatch.results import Called

if TYPE_CHECKING:
    from kgdbpatch.kernel.kernel import Kernel

__all__ = ["CallableGuest"]


class CallableGuest(Restorable):
    """A running guest, its functions called."""

    def call(self, function: str | int, *arguments: int | bytes, deadline: float = 10.0) -> int:
        """Call one of the kernel's functions, or of a patch's, with up to eight words; return its 32 bits.

        A patch's is ``file:name`` or ``3:name``, or its name alone where nobody else has that.
        A process that makes a system call does so; it may sleep. Of ``bytes`` the function gets the address
        of such a C string, which is there for the time of the call. Raises `Refused` for functions that
        cannot be called, or where this kernel's cannot (rule ``memory``), `TargetLost` where it is paused,
        `TargetTimeout` when nobody comes, or returns, within ``deadline`` seconds.

        >>> kernel.call("int_sqrt", 1764)
        42
        """
        from kgdbpatch.kernel.called import call

        return call(cast("Kernel", self), self._calls, function, arguments, deadline)

    def call_typed(
        self, function: str | int, *arguments: str | int | bytes, deadline: float = 10.0
    ) -> Called:
        """Call a function as `call` does, its arguments checked against its prototype, its value by its type.

        Arguments may be words as on a command line: numbers, names, constants of an enumeration, ``"text"``.
        64 bits take two registers. Where no debug information tells of the function nothing is
        checked, and the ``type`` is None. Raises `Misuse` for other arguments than it takes, `Refused` (rule
        ``floating point``).

        >>> kernel.call_typed("kstrtobool", '"yes"', "jiffies").text
        '0 (0x00000000)'
        """
        from kgdbpatch.kernel.called import argument
        from kgdbpatch.kernel.signatures import prototype_of

        address = self.resolve_name(function) if isinstance(function, str) else function
        known = prototype_of(self.image, address)
        if known is None:
            words = [
                argument(a, self.image, self.resolve_name) if isinstance(a, str) else a for a in arguments
            ]
            value = self.call(address, *words, deadline=deadline)
            signed = value - (1 << 32) if value >> 31 else value
            return Called(value, signed, None, f"{value} (0x{value:08x})")
        from kgdbpatch.kernel.typed_call import passed, told
        from kgdbpatch.types.declare import spelling

        words = passed(known, arguments, self.image, self.resolve_name)
        value = self.call(address, *words, deadline=deadline)
        found = told(cast("Kernel", self), known, value, self._calls.low)
        return Called(found.value, found.signed, spelling(known.returns), found.text)
