"""Payloads that overwrite every register called free at a site."""

from __future__ import annotations

from functools import lru_cache

from kgdbpatch.isa import encode
from kgdbpatch.isa.abi import ABI
from kgdbpatch.patch.payload import Payload, asm_payload

__all__ = ["junk", "junk_words"]

_HIGH, _LOW = 0x6BAD, 0x97E5  # as an address nothing is there; as CR no two neighbouring fields agree
_STACK = 1  # a source of sorts where no register is free: never what a CR field or CTR should be


def _arithmetic(register: int, extended: int) -> int:
    """Encode an XO-form instruction with one register for all its operands."""
    return 31 << 26 | register << 21 | register << 16 | register << 11 | extended << 1


def _invert_carry(register: int) -> list[int]:
    """Encode ``li``, ``addze``, ``subfic`` by zero: CA was 0, is 1, and the other way round."""
    addze = 31 << 26 | register << 21 | register << 16 | 202 << 1
    subfic = 8 << 26 | register << 21 | register << 16
    return [encode.addi(register, 0, 0), addze, subfic]


def _overflow(register: int) -> list[int]:
    """Encode an ``addo`` that sets OV and SO."""
    return [encode.lis(register, 0x7FFF), _arithmetic(register, 778)]


def junk_words(free: tuple[str, ...]) -> list[int]:
    """Return the words that change every register of ``free``; none where nothing can be done."""
    gprs = [int(name[1:]) for name in free if name.startswith("r")]
    fields = sum(0x80 >> int(name[2:]) for name in free if name.startswith("cr"))
    words = []
    source = _STACK
    if gprs:
        source = gprs[0]
        words += _overflow(source) if {"ov", "so"} <= set(free) else []
        words += _invert_carry(source) if "ca" in free else []
        words += [encode.lis(source, _HIGH), encode.ori(source, source, _LOW)]
    words += [encode.mtcrf(fields, source)] if fields else []
    words += [encode.mtlr(source)] if "lr" in free else []
    words += [encode.mtctr(source)] if "ctr" in free else []
    return words + [encode.lis(number, _HIGH + number) for number in gprs]


@lru_cache(maxsize=1 << 15)
def junk(free: tuple[str, ...], abi: ABI) -> Payload | None:
    """Return a counted payload that overwrites the registers of ``free``, or None for none."""
    words = junk_words(free)
    return asm_payload(lambda _at: words, 0, abi, counted=True) if words else None
