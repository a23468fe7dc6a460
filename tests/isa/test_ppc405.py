"""The 405's own instructions are decoded as objdump has them; on other CPUs its words stay as they were."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest

from kgdbpatch.guests import Recipe
from kgdbpatch.image import Image
from kgdbpatch.isa.decode import Kind, decode, decode_array
from kgdbpatch.isa.match import extension_of, find_forms, rows
from kgdbpatch.isa.ppc405 import MODEL, ROWS
from kgdbpatch.isa.registers import names

from .forms import Forms
from .objdump import OBJDUMP, mnemonics, texts

needs_objdump = pytest.mark.skipif(shutil.which(OBJDUMP) is None, reason=f"{OBJDUMP} is not installed")
OF_MODEL = ("-M", "405")
OURS = {row.mnemonic for row in ROWS}
OPTIONAL = {"iccci", "dccci"}  # objdump leaves the last operand out where it is 0
# objdump does not look at bits that must be 0
RESERVED_BITS = 1, 0x03E0_0000, 0x001F_0000, 0x0000_F800, 0x001F_F801
DCR = re.compile(r"m[ft](?!dcr|spr|msr)\w+")
DCR_OPCODES = 323, 451
FORMS = Forms(MODEL, ROWS, (4, 19, 31))
of_rows, beside_rows = FORMS.of_rows, FORMS.beside_rows


def plain(name: str, word: int) -> str:
    """Return a mnemonic of objdump's; it names the 403's device control registers."""
    return f"{name[:2]}dcr" if DCR.match(name) and word >> 1 & 0x3FF in DCR_OPCODES else name


def whole(text: str) -> str:
    """Return an instruction's text without the names for one word of an entry."""
    for half, number in (("hi", 0), ("lo", 1)):
        text = re.sub(rf"^(tlb[rw]e){half} (.*)", rf"\1 \2,{number}", text)
    return text


@needs_objdump
def test_every_form_is_what_objdump_takes_it_for() -> None:
    expected, words = of_rows(1, 30)
    decoded = decode_array(words, MODEL)
    assert len(OURS) == len(ROWS) > 90
    assert [rows()[form].mnemonic for form in decoded.form.tolist()] == expected
    raw = [*map(plain, mnemonics(words, *OF_MODEL, "-M", "raw"), words.tolist())]
    assert {(name, seen) for name, seen in zip(expected, raw, strict=True) if name != seen} == set()


@needs_objdump
def test_nothing_else_is_taken_for_a_form() -> None:
    words = beside_rows(2)
    forms = find_forms(words, MODEL)
    raw = np.array([*map(plain, mnemonics(words, *OF_MODEL, "-M", "raw"), words.tolist())])
    ours = np.array([extension_of(form) == MODEL for form in forms.tolist()])
    assert ours.sum() > 2_000
    named = np.array([rows()[form].mnemonic for form in forms.tolist()])
    assert set(named[ours & (named != raw)].tolist()) == set()
    missed = ~ours & np.isin(raw, list(OURS))
    sound = np.zeros(missed.sum(), np.bool_)
    for bits in RESERVED_BITS:  # with these clear it is the form
        forms = find_forms(words[missed] & ~np.uint32(bits), MODEL)
        sound |= np.array([extension_of(form) == MODEL for form in forms.tolist()], np.bool_)
    assert set(raw[missed][~sound].tolist()) == set()


@needs_objdump
def test_text_is_objdumps() -> None:
    names_, words = of_rows(3, 20)
    for name, word, text in zip(names_, words.tolist(), texts(words, *OF_MODEL), strict=True):
        written, text = (whole(one) for one in (decode(word, 0, MODEL).written_for(MODEL), text))
        short = {written, written.removesuffix(",0"), written.removesuffix(",r0"), written.removesuffix(" 0")}
        assert text in (short if name in OPTIONAL else {written}) or DCR.match(text)


def test_on_other_cpus_its_words_are_what_they_were() -> None:
    FORMS.unknown_elsewhere(5)


def test_arrays_are_decoded_as_single_words() -> None:
    FORMS.decoded_alike(6)


def test_what_they_reach() -> None:
    def of(word: int) -> tuple[str, Kind, list[str], list[str]]:
        found = decode(word, 0, MODEL)
        return found.text, found.kind, names(found.defs), names(found.uses)

    assert of(0x7D6D_0FA4) == ("tlbwe r11,r13,1", Kind.SYSTEM, ["tlb"], ["r11", "r13", "spr", "tlb"])
    assert of(0x7D8B_0764) == ("tlbrehi r12,r11", Kind.SYSTEM, ["r12", "spr"], ["r11", "spr", "tlb"])
    assert of(0x4C00_0066) == ("rfci", Kind.RFI, ["msr"], ["msr", "spr"])


@pytest.mark.soak
@pytest.mark.linux
def test_every_word_of_the_guests_kernel_is_known() -> None:
    path = Recipe.find("linux-405").image_path()
    if path is None:
        pytest.skip("the image of 'linux-405' is not built; run: kgdbpatch image build linux-405")
    image, own = Image.load(path), set[str]()
    for section in image.code_sections():
        words = image.words(section)
        decoded = decode_array(words, MODEL)
        strange = np.isin(decoded.kind, (Kind.UNKNOWN, Kind.FOREIGN)) & (words != 0)
        assert not strange.any(), [hex(section.address + 4 * at) for at in np.flatnonzero(strange).tolist()]
        own |= {rows()[form].mnemonic for form in np.unique(decoded.form).tolist()}
    assert own & OURS >= {"wrtee", "wrteei", "mfdcr", "mtdcr", "tlbwe", "tlbsx.", "iccci", "rfci"}
