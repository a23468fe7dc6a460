"""Calls of a kernel's functions from outside: which may be called, and how arguments are written."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kgdbpatch.component.data import mark_called
from kgdbpatch.cpu.kernel_call import MOST_ARGUMENTS
from kgdbpatch.errors import Misuse, Refused, TargetLost, TargetTimeout, UnknownSymbol
from kgdbpatch.kernel.patch_names import PatchNames

if TYPE_CHECKING:
    from kgdbpatch.image import Image
    from kgdbpatch.kernel.calls import Calls
    from kgdbpatch.kernel.kernel import Kernel
    from kgdbpatch.patch.site_checker import SiteChecker
    from kgdbpatch.personality import Personality

__all__ = ["argument", "call", "check_called", "check_count"]

_MOST_DIGITS = 64
_NUMBER = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|[0-9]+)")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_ESCAPE = re.compile(rb"\\(?:([abfnrtv\\\"'])|x([0-9a-fA-F]{1,2})|([0-7]{1,3})|(.?))", re.DOTALL)
_ESCAPED = dict(zip(b"abfnrtv\\\"'", b"\a\b\f\n\r\t\v\\\"'", strict=True))


def call(
    kernel: Kernel, calls: Calls, function: str | int, arguments: Sequence[int | bytes], deadline: float
) -> int:
    """Do what `Kernel.call` says."""
    check_count(arguments)
    kernel.header  # noqa: B018 - raises where there is none
    address = kernel.resolve_name(function) if isinstance(function, str) else function
    with kernel._exclusive():
        own = _of_a_patch(kernel, address)
        if not own:
            check_called(kernel.image, kernel._personality, kernel._own_checker, address)
        if not kernel.qemu.runs():
            raise TargetLost(f"guest '{kernel.name}' is paused; its kernel runs nothing before 'resume'")
        words, pointed = calls.with_strings(arguments)
        try:
            return calls(address, *words, deadline=deadline, pointed=pointed, own=own)
        except TargetTimeout:
            kernel.assure_alive()  # it may have died of the call
            raise


def _of_a_patch(kernel: Kernel, address: int) -> bool:
    """Tell whether a function is a patch's; note that it is called, so that its memory is not given back."""
    component, ram = kernel._component, kernel._qemu.ram
    arena = component.arena(kernel.header.arena)
    for one in PatchNames(arena).noted:
        if one.record.body <= address < one.record.body + one.record.body_size:
            if address - one.payload not in {each.offset for each in one.note.functions}:
                raise Misuse(f"{one.symbolize(address)} is in the middle of a function, or none")
            mark_called(component, arena, ram, one.record)
            return True
    return False


def check_count(arguments: Sequence[int | bytes]) -> None:
    """Raise `Misuse` for more words than registers pass, or numbers of more than 32 bits."""
    if len(arguments) > MOST_ARGUMENTS:
        raise Misuse(f"{len(arguments)} arguments: at most {MOST_ARGUMENTS} words are passed in registers")
    for number in arguments:
        if isinstance(number, int) and not -(1 << 31) <= number < 1 << 32:
            raise Misuse(f"{number} has more than 32 bits")


def check_called(image: Image, personality: Personality, site_checker: SiteChecker, address: int) -> None:
    """Raise `Misuse` for what is no function, `Refused` for one that would not come back safely.

    ``site_checker`` is the kernel's own, without its modules.
    """
    what = image.symbolize(address)
    module = image.module_at(address)
    if module is not None:
        told = f"{what} may be unloaded while it is called: it is the module's '{module}'"
        raise Refused("module", told, address)
    section = image.section_at(address)
    if section is None or not section.executable:
        raise Misuse(f"{what} is no code of the kernel's file")
    function = site_checker.function(address)
    if function.address != address:
        raise Misuse(f"{what} is in the middle of a function; {function.name} is where it begins")
    if section.name in personality.untranslated_sections:
        raise Refused("exception code", f"{what} is in a section of exception code", address)
    if site_checker._runs_untranslated(function, address):
        raise Refused("untranslated", f"{what} is code for the MMU switched off", address)
    if site_checker._index.never_returns(address):
        raise Refused("no return", f"{what} never returns: a call of it would not end", address)


def argument(word: str, image: Image, resolve: Callable[[str], int] | None = None) -> int | bytes:
    """Return what a word on a command line passes: a number, a name's address, or a C string in quotes.

    ``resolve`` is what finds names, where it is more than the image.
    Raises `Misuse`, or `UnknownSymbol` with close names.

    >>> argument("-1", image), argument('"eth0"', image)
    (-1, b'eth0')
    """
    word = word.strip()
    if word[:1] == '"':
        return _string(word)
    if _NUMBER.fullmatch(word):
        sign, digits = (-1 if word[0] == "-" else 1), word.lstrip("+-")
        if len(digits) > _MOST_DIGITS:
            raise Misuse(f"{word[:_MOST_DIGITS]}… has more than 32 bits")
        number = sign * (int(digits, 16) if digits[:2] in ("0x", "0X") else int(digits))
        check_count([number])
        return number
    try:
        return (resolve or image.resolve)(word)
    except UnknownSymbol:
        raise
    except Misuse as error:
        if "ambiguous" in str(error):
            raise
        told = f"'{word}' is no argument: write a number, a name, name+0x18 or '\"text\"'"
        raise Misuse(told) from error


def _string(word: str) -> bytes:
    """Return the bytes of a C string in quotes."""

    def unescaped(match: re.Match[bytes]) -> bytes:
        simple, hexadecimal, octal, _ = match.groups()
        if simple:
            return bytes([_ESCAPED[simple[0]]])
        if hexadecimal:
            return bytes([int(hexadecimal, 16)])
        if octal and int(octal, 8) < 256:
            return bytes([int(octal, 8)])
        raise Misuse(f"{word}: {os.fsdecode(match[0])} is no escape of C")

    if not _STRING.fullmatch(word):
        raise Misuse(f'{word} is no C string: one quote begins it, one ends it, inside it is written \\"')
    return _ESCAPE.sub(unescaped, os.fsencode(word[1:-1]))
