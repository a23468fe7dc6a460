"""The e500's own instructions are decoded as objdump has them; on other CPUs its words stay foreign."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from kgdbpatch.isa.decode import Kind, decode, decode_array
from kgdbpatch.isa.e500 import MODEL, ROWS
from kgdbpatch.isa.match import extension_of, find_forms, rows
from kgdbpatch.isa.registers import ALL, names

from .forms import Forms
from .objdump import OBJDUMP, mnemonics, texts

needs_objdump = pytest.mark.skipif(shutil.which(OBJDUMP) is None, reason=f"{OBJDUMP} is not installed")
OF_MODEL = ("-M", "e500")
OURS = {row.mnemonic for row in ROWS}
RAW = {"mfspefscr": "mfspr", "mtspefscr": "mtspr"}  # what objdump calls them when it is to use no aliases
# Two words of one form: objdump names another order of the operands, or one register for two.
ALIASES = {"evsubfw": "evsubw", "evsubifw": "evsubiw"}
RESERVED_BITS = 1, 0x0060_0000, 0x001F_0000, 0x0000_F800  # objdump does not look at bits that must be 0
RESERVED = {"wrtee", "wrteei", "rfci", "rfmci", "tlbre", "tlbwe", "tlbsx", "tlbivax", "mbar"}
FORMS = Forms(MODEL, ROWS, (4, 19, 31))
of_rows, beside_rows = FORMS.of_rows, FORMS.beside_rows


@needs_objdump
def test_every_form_is_what_objdump_takes_it_for() -> None:
    expected, words = of_rows(1, 30)
    decoded = decode_array(words, MODEL)
    assert len(OURS) == len(ROWS) > 280
    assert [rows()[form].mnemonic for form in decoded.form.tolist()] == expected
    raw = mnemonics(words, *OF_MODEL, "-M", "raw")
    wrong = {
        (name, seen)
        for name, seen in zip(expected, raw, strict=True)
        if seen not in (RAW.get(name, name), ALIASES.get(name))
    }
    assert wrong == set()


@needs_objdump
def test_nothing_else_is_taken_for_a_form() -> None:
    words = beside_rows(2)
    forms = find_forms(words, MODEL)
    raw = np.array(mnemonics(words, *OF_MODEL, "-M", "raw"))
    ours = np.array([extension_of(form) == MODEL for form in forms.tolist()])
    assert ours.sum() > 5_000
    named = np.array([rows()[form].mnemonic for form in forms.tolist()])
    mapped = np.array([RAW.get(name, name) for name in named.tolist()])
    other = np.array([ALIASES.get(name, name) for name in named.tolist()])
    assert set(named[ours & (mapped != raw) & (other != raw)].tolist()) == set()
    missed = ~ours & np.isin(raw, list(OURS))
    sound = np.isin(raw[missed], list(RESERVED))
    for bits in RESERVED_BITS:  # with these clear it is the form
        forms = find_forms(words[missed] & ~np.uint32(bits), MODEL)
        sound |= np.array([extension_of(form) == MODEL for form in forms.tolist()])
    assert set(raw[missed][~sound].tolist()) == set()


@needs_objdump
def test_text_is_objdumps() -> None:
    names_, words = of_rows(3, 20)
    for name, word, text in zip(names_, words.tolist(), texts(words, *OF_MODEL), strict=True):
        assert name in ALIASES or decode(word, 0, MODEL).written_for(MODEL) == text


def test_on_a_7xx_its_words_are_instructions_of_other_cpus() -> None:
    known = {"mfspefscr", "mtspefscr", "mbar", "tlbwe"}  # words of the 7xx, by other names
    for name, word in zip(*of_rows(5, 4), strict=True):
        if name not in known:
            plain = decode(word)
            assert plain.foreign, name
            assert (plain.defs, plain.uses) == (0, ALL)


def test_arrays_are_decoded_as_single_words() -> None:
    FORMS.decoded_alike(6)


def test_what_they_reach() -> None:
    def of(word: int) -> tuple[str, Kind, list[str], list[str]]:
        found = decode(word, 0, MODEL)
        return found.text, found.kind, names(found.defs), names(found.uses)

    assert of(0x7C64_2D1E) == ("isel r3,r4,r5,4*cr5+lt", Kind.ARITHMETIC, ["r3"], ["r4", "r5", "cr5"])
    assert of(0x1064_2A7A) == (
        "evsel r3,r4,r5,cr2",
        Kind.ARITHMETIC,
        ["r3", "spe"],
        ["r4", "r5", "cr2", "spe"],
    )
    assert of(0x7C60_0106) == ("wrtee r3", Kind.SYSTEM, ["msr"], ["r3", "msr"])
    assert of(0x4C00_0066) == ("rfci", Kind.RFI, ["msr"], ["msr", "spr"])
    assert decode(0x1064_2A7A, 0, MODEL).spe
