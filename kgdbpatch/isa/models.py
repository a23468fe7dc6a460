"""Write the instructions of other models as ``objdump -M MODEL`` writes them.

The same word is one instruction of an e500 (SPE) and another of a 7450 (AltiVec), so it is written where its
model is known, or where all that have it agree. ``models.txt`` holds ``mask match models name operands``
lines: ``-`` for no operands, ``?`` where the name alone is known. What none of these models has (64-bit,
POWER, VSX) is shown as capstone writes it, where the table of names agrees.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from kgdbpatch.isa.operands import operands

__all__ = ["MODELS", "is_of_models", "library_text", "syntax_of_model", "text_of_model"]

# What objdump calls an instruction whose two sources are one register.
_ALIASES = {
    "vor": ("vmr", "V,W"),
    "vnor": ("vnot", "V,W"),
    "evor": ("evmr", "D,A"),
    "evnor": ("evnot", "D,A"),
}

MODELS = ("e500", "7450", "750cl", "titan", "405", "440", "476", "860", "e300", "e500mc")


class _Row(NamedTuple):
    mask: int
    match: int
    models: frozenset[str]
    name: str
    syntax: str

    def text(self, word: int) -> str:
        """Return the text of a word of the row, "" where it cannot be told."""
        if self.syntax in "-?":
            return self.name if self.syntax == "-" else ""
        name, syntax = self.name, self.syntax
        if word >> 16 & 31 == word >> 11 & 31:
            name, syntax = _ALIASES.get(name, (name, syntax))
        return f"{name} {operands(syntax, word)}"


@lru_cache(maxsize=1)
def _rows() -> dict[int, list[_Row]]:
    """Return the rows by primary opcode, the more special before the more general."""
    found: dict[int, list[_Row]] = {primary: [] for primary in range(64)}
    for line in Path(__file__).with_name("models.txt").read_text("ascii").splitlines():
        if not line.startswith("#"):
            mask, match, models, name, syntax = line.split(maxsplit=4)
            row = _Row(int(mask, 16), int(match, 16), frozenset(models.split(",")), name, syntax)
            found[row.match >> 26].append(row)
    return found


@lru_cache(maxsize=1 << 12)
def text_of_model(word: int, model: str = "") -> str | None:
    """Return the text of a word on a model ("": what all models agree on); None where it has none."""
    texts: set[str] = set()
    undecided = {model} if model else set(MODELS)
    for row in _rows()[word >> 26]:
        if word & row.mask == row.match and row.models & undecided:
            undecided -= row.models
            texts.add(row.text(word))
    return texts.pop() or None if len(texts) == 1 else None


def syntax_of_model(word: int, model: str) -> str | None:
    """Return the operands of a word on a model (letters of `OPERANDS`), None where it has no such word."""
    for row in _rows()[word >> 26]:
        if word & row.mask == row.match and model in row.models and row.syntax != "?":
            return row.syntax.replace("-", "")
    return None


def is_of_models(word: int) -> bool:
    """Tell whether any of `MODELS` has an instruction for a word."""
    return any(word & row.mask == row.match for row in _rows()[word >> 26])


@lru_cache(maxsize=1)
def _disassembler() -> Any:
    import capstone  # needed only to print

    return capstone.Cs(capstone.CS_ARCH_PPC, capstone.CS_MODE_64 | capstone.CS_MODE_BIG_ENDIAN)


def library_text(mnemonic: str, word: int, address: int) -> str | None:
    """Return the text of a word that the table calls ``mnemonic``, None where capstone calls it otherwise.

    >>> library_text("ld", 0xE8610008, 0)
    'ld r3,8(r1)'
    """
    for _, _, name, written in _disassembler().disasm_lite(word.to_bytes(4, "big"), address, 1):
        if name == mnemonic:
            return f"{name} {written.replace(', ', ',')}".rstrip()
    return None
