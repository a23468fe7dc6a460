"""Choose the words to judge: every form of the table in all its variants, and where the kernels use it.

A variant is a table row (``Rc`` and ``OE`` have rows of their own) with r0-as-zero or a base,
operands that cancel or do not, the BO of a branch, the number of a special register.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from kgdbpatch.image import Image
from kgdbpatch.isa.altivec import MODEL, has_altivec
from kgdbpatch.isa.decode import decode_array
from kgdbpatch.isa.match import extension_of, find_form, rows
from kgdbpatch.isa.table import TABLE, Kind, Row

from .deviations import NOT_JUDGED
from .layout import SLOT, TRAPS, WINDOW
from .machine import SLOTS

__all__ = ["Probes", "Variant", "foreign_names", "kernel_words", "probes"]

Words = npt.NDArray[np.uint32]
_FIRST_OFFSET, _OFFSETS = 64, 4  # displacements from address 0 reach WINDOW + 64, 72, 80, 88
_SPR = (339, 371, 467)
_WIDE_BASE = ("lswi", "stswi", "lswx", "stswx")
_TRIES = 4096


@dataclass(frozen=True, order=True)
class Variant:
    """A table row and what else makes a difference."""

    form: int
    detail: str = ""

    @property
    def row(self) -> Row:
        return rows()[self.form]

    def __str__(self) -> str:
        return f"{self.row.mnemonic} {self.detail}".rstrip()


@dataclass
class Probes:
    """The words to judge, one slot each, with the variant of each and how often the kernels have it.

    ``model`` is that of the CPU, as for `decode`. ``unjudged`` are variants that `deviations` leaves out or
    all of whose words are invalid forms.
    """

    words: Words
    variant: npt.NDArray[np.int32]
    variants: list[Variant]
    occurrences: list[int] = field(default_factory=list)
    model: str = ""
    unjudged: list[Variant] = field(default_factory=list)

    @property
    def addresses(self) -> npt.NDArray[np.uint32]:
        """Where each word stands."""
        return (SLOTS + 8 + 4 * SLOT * np.arange(len(self.words))).astype(np.uint32)

    @property
    def rows(self) -> list[Row]:
        """The table row of each word."""
        of_variant = [variant.row for variant in self.variants]
        return [of_variant[index] for index in self.variant]


def kernel_words(images: list[Image]) -> dict[Variant, tuple[int, Words]]:
    """Return how many words of each variant the images hold, and which distinct ones."""
    every = np.concatenate([image.words(section) for image in images for section in image.code_sections()])
    words, counts = np.unique(every, return_counts=True)
    decoded = decode_array(words)
    exact = (decoded.form > 0) & (decoded.form < len(TABLE)) & ~decoded.invalid
    found: dict[Variant, list[tuple[int, int]]] = defaultdict(list)
    for word, count, form in zip(
        words[exact].tolist(), counts[exact].tolist(), decoded.form[exact].tolist(), strict=True
    ):
        found[_variant(form, word)].append((word, count))
    return {
        variant: (
            sum(count for _, count in members),
            np.array([word for word, _ in members], dtype=np.uint32),
        )
        for variant, members in found.items()
    }


def foreign_names(images: list[Image]) -> list[str]:
    """Return the names of other models' instructions that the images hold, or data that looks so."""
    every = np.concatenate([image.words(section) for image in images for section in image.code_sections()])
    forms = np.unique(decode_array(every).form)
    return sorted({rows()[form].mnemonic for form in forms[forms >= len(TABLE)].tolist()})


def _variant(form: int, word: int) -> Variant:
    row = rows()[form]
    a, b, d = word >> 16 & 31, word >> 11 & 31, word >> 21 & 31
    if word >> 26 in (16, 19) and row.kind in _BRANCHES:
        return Variant(form, f"BO={d}")
    if word >> 26 == 31 and word >> 1 & 0x3FF in _SPR:
        return Variant(form, f"spr={a | b << 5}")
    if row.cancels:
        return Variant(form, f"r{row.cancels}=rB" if (a if row.cancels == "A" else d) == b else "")
    if "A0" in row.use_fields:
        return Variant(form, "rA=0" if a == 0 else "")
    return Variant(form)


_BRANCHES = {Kind.BRANCH, Kind.JUMP, Kind.CALL, Kind.RETURN, Kind.INDIRECT}


def _fits(variant: Variant, word: int, model: str = "") -> bool:
    """Tell whether a word is of the variant and a valid form for a case to be made of."""
    row = variant.row
    if find_form(word, model) != variant.form or _variant(variant.form, word) != variant:
        return False
    a, b, d = word >> 16 & 31, word >> 11 & 31, word >> 21 & 31
    if (row.not_zero and a == 0) or (row.not_target and a == d):
        return False
    if row.mnemonic == "lmw" and a >= d:
        return False
    if row.mnemonic in _WIDE_BASE:  # the base may not be loaded, and not be the address 0
        count = ((b or 32) + 3) // 4 if row.mnemonic.endswith("i") else 8
        inside = {(d + n) % 32 for n in range(count)}
        return a != 0 and a not in inside and (row.mnemonic.endswith("i") or b not in inside)
    if row.mnemonic == "mtocrf" and (word >> 12 & 0xFF).bit_count() != 1:
        return False
    counts_its_target = row.mnemonic.startswith("bcctr") and not d & 4  # no valid form
    return not counts_its_target


def _adjusted(variant: Variant, word: int, random: np.random.Generator) -> int:
    """Return the word with the displacement of an access to address 0 + d led into the window."""
    row = variant.row
    if row.offset == "d" and not word >> 16 & 31:
        word = word & 0xFFFF0000 | WINDOW + _FIRST_OFFSET + 8 * int(random.integers(_OFFSETS))
    return word


def _random_words(variant: Variant, random: np.random.Generator, count: int, model: str) -> list[int]:
    row = variant.row
    found: list[int] = []
    bits = random.integers(0, 1 << 32, _TRIES, dtype=np.uint32) & np.uint32(~row.mask & 0xFFFFFFFF)
    for word in (bits | np.uint32(row.match)).tolist():
        if "rA=0" in variant.detail:
            word &= ~(31 << 16)
        elif "=rB" in variant.detail:
            b = word >> 11 & 31
            shift = 16 if row.cancels == "A" else 21
            word = word & ~(31 << shift) | b << shift
        elif row.mnemonic == "mtocrf":
            word = word & ~0xFF000 | 1 << 12 + (word >> 12 & 7)
        elif variant.detail.startswith("BO="):
            word = word & ~(31 << 21) | int(variant.detail[3:]) << 21
        elif variant.detail.startswith("spr="):
            number = int(variant.detail[4:])
            word = word & ~0x1FF800 | (number & 31) << 16 | (number >> 5) << 11
        if _fits(variant, word, model):
            found.append(_adjusted(variant, word, random))
            if len(found) == count:
                break
    return found


def _targeted(word: int, address: int, count: int, random: np.random.Generator) -> int:
    """Return a direct branch with its displacement led to a trap word."""
    primary = word >> 26
    if word & 2:
        target = int(random.integers(TRAPS[0] // 4, TRAPS[1] // 4)) * 4
        displacement = target
    else:
        mine = (address - SLOTS) // (4 * SLOT)
        reach = 900 if primary == 16 else count
        other = int(random.integers(max(0, mine - reach), min(count, mine + reach)))
        displacement = SLOTS + other * 4 * SLOT + 24 + 4 * int(random.integers(2)) - address
    bits = 0xFFFC if primary == 16 else 0x03FFFFFC
    return word & ~bits | displacement & bits


def _all_variants(used: dict[Variant, tuple[int, Words]], model: str) -> list[Variant]:
    """Return the variants of the kernels and those of the rest of the table; of a 74xx AltiVec's alone."""
    found = set(used)
    every = list(enumerate(rows()))
    altivec = [(form, row) for form, row in every if extension_of(form) == MODEL]
    table = altivec if has_altivec(model) else every[1 : len(TABLE)]
    for form, row in table:
        details = {variant.detail for variant in used if variant.form == form}
        if "A0" in row.use_fields:
            details |= {""} if row.mnemonic in _WIDE_BASE else {"", "rA=0"}
        elif row.cancels:
            details |= {"", f"r{row.cancels}=rB"}
        elif (
            row.match >> 26 in (16, 19) and row.kind in _BRANCHES
        ):  # every BO, with its bits that say nothing
            details |= {f"BO={bo}" for bo in range(32) if (bo << 21 ^ row.match) & row.mask & 31 << 21 == 0}
        elif not details:
            details = {_variant(form, row.match | 5 << 21 & ~row.mask & 0xFFFFFFFF).detail}
        found |= {Variant(form, detail) for detail in details}
    return sorted(found)


def probes(
    used: dict[Variant, tuple[int, Words]],
    choices: int,
    seed: int,
    only: Collection[str] | None = None,
    model: str = "",
) -> Probes:
    """Choose ``choices`` words of every variant, half of them from the kernels as far as they go.

    Floating-point operations get four times as many: what enabled exceptions do is seen seldom.
    With ``only``, forms of other mnemonics are left out.
    """
    random = np.random.default_rng(seed)
    words: list[int] = []
    index: list[int] = []
    variants: list[Variant] = []
    unjudged: list[Variant] = []
    for variant in _all_variants(used, model):
        if only is not None and variant.row.mnemonic not in only:
            continue
        if variant.row.mnemonic in NOT_JUDGED:
            unjudged.append(variant)
            continue
        count = choices * (4 if "fD" in variant.row.use_fields else 1)
        mine: list[int] = []
        if variant in used:
            members = used[variant][1]
            some = random.permutation(members)[: count // 2].tolist()
            mine = [_adjusted(variant, word, random) for word in some if _fits(variant, word)]
        drawn = _random_words(variant, random, count - len(mine), model)
        if not drawn and not mine:
            unjudged.append(variant)
            continue
        while len(mine) < count:  # few words exist of some forms: their states differ
            mine += drawn or mine
        words += mine[:count]
        index += [len(variants)] * count
        variants.append(variant)
    result = Probes(np.array(words, dtype=np.uint32), np.array(index, dtype=np.int32), variants, model=model)
    result.unjudged = unjudged
    result.occurrences = [used[variant][0] if variant in used else 0 for variant in variants]
    for n, address in enumerate(result.addresses.tolist()):
        word = int(result.words[n])
        if word >> 26 in (16, 18):
            result.words[n] = _targeted(word, address, len(words), random)
    return result
