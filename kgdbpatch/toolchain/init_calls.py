"""Init calls of a payload, and what is called at its end: which sections list them, in which order.

Constructors and destructors as compilers write them (gABI, "Initialization and Termination Functions"; for
``.ctors`` and ``.dtors`` GCC's crtstuff.c), Linux's initcalls and exitcalls (include/linux/init.h), and the
two functions of a Linux module.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

__all__ = [
    "ARRAYS",
    "OF_MODULES",
    "InitCall",
    "InitCalls",
    "has_exit_calls",
    "has_init_calls",
    "layout",
    "taken_marks",
]

ARRAYS = ("SHT_INIT_ARRAY", "SHT_FINI_ARRAY", "SHT_PREINIT_ARRAY")  # types of sections that are loaded, too

# in the order in which Linux runs them; a console's are the first ones
_LEVELS = ("early", "0", "0s", "1", "1s", "2", "2s", "3", "3s", "4", "4s", "5", "5s", "rootfs", "6", "6s")
_INITCALLS = (".con_initcall.init", *(f".initcall{level}.init" for level in (*_LEVELS, "7", "7s")))
_EXITCALLS = ".exitcall.exit"
_CONSTRUCTORS = (".preinit_array", ".init_array", ".ctors")
_DESTRUCTORS = (".fini_array", ".dtors")
OF_MODULES = _MODULE_INIT, _MODULE_EXIT = "init_module", "cleanup_module"
_STAGE = "__kgdbpatch_stage"
_TABLES = ("constructors", "initcalls", "destructors", "exitcalls")
_MARKS = tuple(f"__kgdbpatch_{table}{end}" for table in _TABLES for end in ("", "_end"))


class InitCall(NamedTuple):
    """A function that is called before its payload can be reached; ``heeded``: other than 0 is a veto."""

    address: int
    name: str
    heeded: bool


@dataclass(frozen=True, slots=True)
class InitCalls:
    """Where linked code has the tables of its init and exit calls: (start, end) of each, offsets in bytes.

    ``stage`` is the offset of the word that tells how far a payload is (kgdbpatch.variables.Stage).
    """

    stage: int
    constructors: tuple[int, int]
    initcalls: tuple[int, int]
    destructors: tuple[int, int]
    exitcalls: tuple[int, int]

    def first(self, code: bytes, symbols: dict[str, int]) -> tuple[InitCall, ...]:
        """Return what is called before the payload can be reached; what Linux's return, is heeded."""
        names = {at: name for name, at in symbols.items()}
        found = [(at, False) for at in _words(code, self.constructors)]
        found += [(at, True) for at in _words(code, self.initcalls)]
        if _MODULE_INIT in symbols:
            found.append((symbols[_MODULE_INIT], True))
        return tuple(InitCall(at, names.get(at, f"0x{at:08x}"), heeded) for at, heeded in found)

    def last(self, code: bytes, symbols: dict[str, int]) -> tuple[int, ...]:
        """Return the addresses of what is called when nobody is in the payload any more."""
        found = [symbols[_MODULE_EXIT]] if _MODULE_EXIT in symbols else []
        found += _words(code, self.exitcalls)[::-1]
        return (*found, *_words(code, self.destructors)[::-1])


def _words(code: bytes, span: tuple[int, int]) -> list[int]:
    words = [int.from_bytes(code[at : at + 4], "big") for at in range(*span, 4)]
    return [word for word in words if word not in (0, 0xFFFF_FFFF)]  # what crtstuff ends its lists by


def has_init_calls(file: ELFFile) -> bool:
    """Tell whether an object has anything that is to be called first."""
    return _has(file, (*_CONSTRUCTORS, *_INITCALLS), _MODULE_INIT)


def has_exit_calls(file: ELFFile) -> bool:
    """Tell whether an object has anything that is to be called at the end."""
    return _has(file, (*_DESTRUCTORS, _EXITCALLS), _MODULE_EXIT)


def _has(file: ELFFile, sections: Iterable[str], function: str) -> bool:
    for section in file.iter_sections():
        named = any(section.name == name or section.name.startswith(f"{name}.") for name in sections)
        if named and section["sh_size"] and section["sh_flags"] & SH_FLAGS.SHF_ALLOC:
            return True
    table: Any = file.get_section_by_name(".symtab")
    symbols = table.get_symbol_by_name(function) if table is not None else None
    return any(one["st_shndx"] != "SHN_UNDEF" for one in symbols or ())


def layout(*, stage: int) -> tuple[list[str], str]:
    """Return statements of a linker script: the tables' sections, and in ``.data`` the word of the stage."""
    by_priority = "SORT_BY_INIT_PRIORITY"
    # ld turns the order of .ctors and .dtors round where they come into sections of these names
    constructors = (
        f"*(.preinit_array .preinit_array.*) *({by_priority}(.init_array.*) {by_priority}(.ctors.*)) "
        "*(.init_array .ctors)"
    )
    destructors = f"*({by_priority}(.fini_array.*) {by_priority}(.dtors.*)) *(.fini_array .dtors)"
    rows = (
        (".init_array", _MARKS[0:2], constructors),
        (".kgdbpatch_initcalls", _MARKS[2:4], " ".join(f"*({name})" for name in _INITCALLS)),
        (".fini_array", _MARKS[4:6], destructors),
        (".kgdbpatch_exitcalls", _MARKS[6:8], f"*({_EXITCALLS})"),
    )
    sections = [f"{name} : {{ {start} = .; {inside} {end} = .; }}" for name, (start, end), inside in rows]
    return sections, f'"{_STAGE}" = .; LONG({stage})'


def taken_marks(symbols: dict[str, int], address: int) -> InitCalls | None:
    """Take the marks of `layout` out of the symbols of code linked for ``address``; return what they tell."""
    if _STAGE not in symbols:
        return None

    def spans() -> Iterator[tuple[int, int]]:
        for start, end in zip(_MARKS[::2], _MARKS[1::2], strict=True):
            yield symbols.pop(start) - address, symbols.pop(end) - address

    return InitCalls(symbols.pop(_STAGE) - address, *spans())
