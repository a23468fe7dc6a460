"""Where registers lie in the remote protocol, from QEMU's description of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from kgdbpatch.errors import Misuse, Refused, TargetLost
from kgdbpatch.vm.description import described_registers, read_document

__all__ = ["GENERAL", "WIDE_SIZE", "GRegisters", "Layout", "narrowed", "widened"]

_NOTE = "registers.json"
GENERAL = (*(f"r{number}" for number in range(32)), "pc", "msr", "cr", "lr", "ctr", "xer")
# qemu-system-ppc64 shows the registers of every CPU with 64 bits, but for these two.
_WIDTHS = tuple(4 if name in ("cr", "xer") else 8 for name in GENERAL)
WIDE_SIZE = sum(_WIDTHS)  # bytes of such a block
_OF_64_BITS = ("ctrl", "spr_ctrl", "mas7_mas3")  # registers that every CPU has some of which has 64 bits


@dataclass(frozen=True)
class Layout:
    """Per register name its number in the protocol, its offset in a ``g`` packet and its size.

    ``pvr`` is what the CPU says that it is (its processor version register), 0 where it does not say;
    ``threads`` are the protocol's names of the CPUs, all of one kind.
    """

    places: Mapping[str, tuple[int, int, int]]
    pvr: int = 0
    threads: tuple[str, ...] = ("p1.1",)

    @classmethod
    def read(cls, packet: Callable[[str], str]) -> Layout:
        """Ask QEMU for its description; ``packet`` sends one packet and returns the answer."""
        places = described_registers(partial(read_document, packet))
        missing = [name for name in GENERAL if name not in places]
        if missing:
            raise TargetLost(f"QEMU describes no register {', '.join(missing)} of this CPU")
        answer = packet(f"p{places['pvr'][0]:x}") if "pvr" in places else "0"
        try:
            return cls(places, int(answer, 16) & 0xFFFF_FFFF, _threads(packet))
        except ValueError:
            raise TargetLost(f"QEMU does not say what CPU this is (answer {answer!r})") from None

    @classmethod
    def load(cls, directory: Path) -> Layout | None:
        """Return the layout kept by `save`, or None."""
        try:
            note = json.loads((directory / _NOTE).read_text())
            places = {name: tuple(place) for name, place in note["places"].items()}
            return cls(places, int(note["pvr"]), tuple(note["threads"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # none, or another version's
            return None

    def save(self, directory: Path) -> None:
        """Keep the layout in the guest's directory, wholly or not at all."""
        draft = (directory / _NOTE).with_suffix(".new")
        draft.write_text(json.dumps({"pvr": self.pvr, "places": dict(self.places), "threads": self.threads}))
        draft.rename(directory / _NOTE)

    @property
    def wide(self) -> bool:
        """Whether the general registers are shown with 64 bits."""
        return self.places["r0"][2] > 4

    def check(self) -> None:
        """Raise `Refused` (``cpu``) for a CPU with 64 bits, `TargetLost` for a layout that is not known."""
        if self.wide and any(name in self.places for name in _OF_64_BITS):
            raise Refused("cpu", f"this CPU (PVR 0x{self.pvr:08x}) has registers of 64 bits")
        at = 0
        for name, width in zip(GENERAL, _WIDTHS if self.wide else [4] * len(GENERAL), strict=True):
            if self.places[name][1:] != (at, width):
                raise TargetLost(f"QEMU describes register {name} at {self.places[name]}: an unknown layout")
            at += width

    @cached_property
    def size(self) -> int:
        """Bytes of a ``g`` packet: the general registers, which QEMU puts first."""
        return max(offset + size for _, offset, size in map(self.places.__getitem__, GENERAL))

    def stopped(self, answer: str, before: int) -> int:
        """Return the number of the CPU that a stop reply names; ``before`` where it names none."""
        match = re.search(r"thread:([^;]*)", answer)
        return self.threads.index(match[1]) if match and match[1] in self.threads else before

    def number(self, name: str) -> int:
        """Return a register's number in the protocol; raises `Misuse` for an unknown name."""
        try:
            return self.places[name][0]
        except KeyError:
            raise Misuse(f"the CPU has no register '{name}'") from None


def _threads(packet: Callable[[str], str]) -> tuple[str, ...]:
    """Return the names of the CPUs, as QEMU lists them."""
    found: list[str] = []
    answer = packet("qfThreadInfo")
    while answer.startswith("m"):
        found += answer[1:].split(",")
        answer = packet("qsThreadInfo")
    if not found:
        raise TargetLost(f"QEMU names no CPU (answer {answer!r})")
    return tuple(found)


class GRegisters:
    """The general registers as one block, the contents of a ``g`` or ``G`` packet.

    >>> registers = GRegisters(session.read_all())
    >>> registers["pc"] += 4
    >>> session.write_all(registers.raw)
    """

    # QEMU's order for 32-bit PowerPC with a target description; `Session` checks it against GDB's.
    OFFSETS: Mapping[str, int] = {name: 4 * index for index, name in enumerate(GENERAL)}
    SIZE = 4 * len(GENERAL)

    def __init__(self, raw: bytes) -> None:
        if len(raw) != self.SIZE:
            raise TargetLost(
                f"QEMU's register block has {len(raw)} bytes, not {self.SIZE}: an unknown layout"
            )
        self._raw = bytearray(raw)

    @property
    def raw(self) -> bytes:
        """The block."""
        return bytes(self._raw)

    def _place(self, name: str) -> slice:
        try:
            offset = self.OFFSETS[name]
        except KeyError:
            raise Misuse(f"'{name}' is none of r0..r31, pc, msr, cr, lr, ctr, xer") from None
        return slice(offset, offset + 4)

    def __getitem__(self, name: str) -> int:
        return int.from_bytes(self._raw[self._place(name)], "big")

    def __setitem__(self, name: str, value: int) -> None:
        self._raw[self._place(name)] = (value & 0xFFFF_FFFF).to_bytes(4, "big")

    def as_dict(self) -> dict[str, int]:
        """Return all registers by name."""
        return {name: self[name] for name in GENERAL}


def narrowed(raw: bytes) -> bytes:
    """Return a block of `WIDE_SIZE` bytes as a CPU with 32 bits has it; another one as it is."""
    if len(raw) != WIDE_SIZE:
        return raw
    found, at = b"", 0
    for width in _WIDTHS:
        at += width
        found += raw[at - 4 : at]
    return found


def widened(raw: bytes) -> bytes:
    """Return the block of `WIDE_SIZE` bytes that `narrowed` makes ``raw`` of; the upper halves are 0."""
    words = (raw[at : at + 4] for at in range(0, len(raw), 4))
    return b"".join(word.rjust(width, b"\0") for word, width in zip(words, _WIDTHS, strict=True))
