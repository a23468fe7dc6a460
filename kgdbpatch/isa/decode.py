"""Decode instruction words: what they are, where they go, what they read and write."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from kgdbpatch.isa import altivec, e500, ppc405, ppc440
from kgdbpatch.isa.fields import FIELDS, Words
from kgdbpatch.isa.match import Forms, extension_of, find_form, find_forms, first_altivec, rows
from kgdbpatch.isa.models import is_of_models, library_text, text_of_model
from kgdbpatch.isa.operands import signed
from kgdbpatch.isa.registers import ALL, SPE, VECTORS
from kgdbpatch.isa.table import TABLE, Kind, Row
from kgdbpatch.isa.text import text

__all__ = ["Decoded", "Instruction", "Kind", "Memory", "decode", "decode_array"]


_EXTENDED = (altivec.MODEL, e500.MODEL, ppc440.MODEL, ppc405.MODEL)


@dataclass(frozen=True)
class Memory:
    """A memory access: base register (None is the address 0), displacement or index, bytes at most."""

    base: int | None
    index: int | None
    displacement: int
    width: int


@dataclass(frozen=True)
class Instruction:
    """One instruction word at its address; ``defs`` and ``uses`` are masks.

    What is changed only in part is in both. ``target`` is where a direct branch goes; ``conditional``: a
    branch may also fall through; ``pc_relative``: the *effect* depends on where the word stands; ``foreign``:
    only other models of the family have it, and but for where control goes nothing is known of it.
    """

    word: int
    address: int
    form: int
    mnemonic: str
    kind: Kind
    defs: int
    uses: int
    target: int | None
    pc_relative: bool
    privileged: bool
    conditional: bool
    known: bool
    foreign: bool

    def __repr__(self) -> str:
        return f"Instruction(0x{self.address:08x}: {self.text})"

    @property
    def vector(self) -> bool:
        """Whether it reads or changes AltiVec's registers, for which MSR[VEC] must be set."""
        return bool((self.defs | self.uses) & VECTORS) and self.mnemonic not in ("mfvrsave", "mtvrsave")

    @property
    def spe(self) -> bool:
        """Whether it reads or changes SPE's part of the registers, for which MSR[SPE] must be set."""
        return bool((self.defs | self.uses) & SPE)

    @property
    def links(self) -> bool:
        """Whether it leaves the address after itself in LR."""
        return self.kind is Kind.CALL

    @property
    def memory(self) -> Memory | None:
        """Return the memory access, if it is a load or store (cache operations apart)."""
        row = rows()[self.form]
        if row.base is None:
            return None
        base = self.word >> 16 & 31
        return Memory(
            base=base or None,
            index=self.word >> 11 & 31 if row.offset == "B" else None,
            displacement=signed(self.word, 16) if row.offset == "d" else 0,
            width=row.width,
        )

    @property
    def text(self) -> str:
        """Return the text for people, ``.long 0x…`` where there is none or models disagree about it."""
        return self.written_for("")

    def written_for(self, model: str) -> str:
        """Return the text on a model of the family (one of `models.MODELS`, "" for none in particular)."""
        own = extension_of(self.form)
        if own:
            model = own
        elif altivec.has_altivec(model) and not self.foreign:
            model = ""  # what a 74xx shares with the plain table it calls by the same names
        found = text_of_model(self.word, model) if model or self.foreign else None
        if found is None and self.known and not self.foreign:
            found = text(self.mnemonic, self.word, self.address)
        elif found is None and self.foreign and not is_of_models(self.word):
            found = library_text(self.mnemonic, self.word, self.address)
        return found or f".long 0x{self.word:08x}"


def _cancelled(row: Row, word: int) -> tuple[str, ...]:
    """Return the operands that are not read because both are the same register (xor r3,r3,r3)."""
    if row.cancels is None:
        return ()
    first = word >> (16 if row.cancels == "A" else 21) & 31
    return (row.cancels, "B") if first == word >> 11 & 31 else ()


@lru_cache(maxsize=1 << 16)
def _effects(word: int, model: str = "") -> tuple[int, int, int]:
    """Return form, defs and uses of a word; an invalid or unknown one reads all and writes nothing."""
    form = find_form(word, model)
    row = rows()[form]
    a, d = word >> 16 & 31, word >> 21 & 31
    invalid = (row.not_zero and a == 0) or (row.not_target and a == d)
    if row.kind in (Kind.UNKNOWN, Kind.FOREIGN) or invalid:
        return form, 0, ALL
    defs, uses = row.defs, row.uses
    for name in row.def_fields:
        defs |= FIELDS[name].scalar(word)
    cancelled = _cancelled(row, word)
    for name in row.use_fields:
        if name not in cancelled:
            uses |= FIELDS[name].scalar(word)
    return form, defs, uses


@lru_cache(maxsize=1 << 16)
def _fields_of(word: int, model: str = "") -> dict[str, object]:
    """Return the fields of a word's `Instruction`, as far as they do not depend on where it stands."""
    form, defs, uses = _effects(word, model)
    row = rows()[form]
    return {
        "word": word,
        "form": form,
        "mnemonic": row.mnemonic if form else ".long",
        "kind": row.kind,
        "defs": defs,
        "uses": uses,
        "target": None,
        "pc_relative": False,
        "privileged": row.privileged,
        "conditional": row.conditional,
        "known": form != 0,
        "foreign": len(TABLE) <= form < first_altivec(),
    }


def decode(word: int, address: int = 0, model: str = "") -> Instruction:
    """Decode a word at an address as a model (of `isa.models`) has it; "" has the plain table alone."""
    fields = _fields_of(word, model) if model in _EXTENDED else _fields_of(word)
    found = object.__new__(Instruction)  # its __init__ sets field after field; whole kernels are decoded
    found.__dict__.update(fields, address=address)
    primary = word >> 26
    if primary in (16, 18) and fields["known"]:
        displacement = signed(word & ~3, 26 if primary == 18 else 16)
        relative = not word & 2
        found.__dict__["pc_relative"] = relative
        found.__dict__["target"] = (address * relative + displacement) & 0xFFFFFFFF
    return found


@lru_cache(maxsize=8)
def _column(name: str) -> npt.NDArray[Any]:
    """Return what the rows say, by form; of ``cancels`` where the operand stands, 0 where none may be."""
    if name == "cancels":
        return np.array([{"A": 16, None: 0}.get(row.cancels, 21) for row in rows()], dtype=np.uint8)
    values = [getattr(row, name) for row in rows()]
    return np.array(values, dtype=np.uint8 if name == "kind" else np.bool_)


class Decoded:
    """The decoded view of an array of words, each property computed when asked for."""

    def __init__(self, words: Words, form: Forms) -> None:
        self.words, self.form = words, form

    def __repr__(self) -> str:
        return f"Decoded({len(self.words)} words)"

    @cached_property
    def kind(self) -> npt.NDArray[np.uint8]:
        """The `Kind` of each word."""
        return _column("kind").take(self.form)

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Whether each word is an instruction of any model of the family."""
        return np.not_equal(self.form, 0)

    @cached_property
    def conditional(self) -> npt.NDArray[np.bool_]:
        """Whether each word is a branch that may fall through."""
        return _column("conditional").take(self.form)

    @cached_property
    def privileged(self) -> npt.NDArray[np.bool_]:
        """Whether each word may be run in supervisor state only."""
        return _column("privileged").take(self.form)

    def branches(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Return indices of direct branches, their displacements or targets, and which are absolute."""
        primary = self.words >> np.uint32(26)
        direct = np.nonzero(((primary == 18) | (primary == 16)) & self.known)[0]
        words = self.words[direct]
        signed = words.astype(np.int64) & ~np.int64(3)
        near = (signed & 0xFFFF ^ 0x8000) - 0x8000
        far = (signed & 0x3FFFFFF ^ 0x2000000) - 0x2000000
        return direct, np.where(primary[direct] == 18, far, near), (words & np.uint32(2)) != 0

    @cached_property
    def cancelled(self) -> npt.NDArray[np.bool_]:
        """Whether each word has two operands that are the same register and cancel each other."""
        result = np.zeros(len(self.words), dtype=np.bool_)
        shifts = _column("cancels").take(self.form)
        at = np.flatnonzero(shifts)
        words = self.words[at]
        result[at] = ((words >> shifts[at] ^ words >> np.uint32(11)) & np.uint32(31)) == 0
        return result

    @cached_property
    def invalid(self) -> npt.NDArray[np.bool_]:
        """Whether each word is an invalid form, such as an update of r0."""
        a, d = (self.words >> np.uint32(16)) & np.uint32(31), (self.words >> np.uint32(21)) & np.uint32(31)
        invalid: npt.NDArray[np.bool_] = _column("not_zero").take(self.form) & (a == 0)
        invalid |= _column("not_target").take(self.form) & (a == d)
        return invalid


def decode_array(words: Words, model: str = "") -> Decoded:
    """Decode an array of words in native byte order; ``model`` as for `decode`."""
    return Decoded(words, find_forms(words, model))
