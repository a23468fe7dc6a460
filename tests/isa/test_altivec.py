"""AltiVec is decoded as objdump and GNU as have it, on a 74xx; on others its words stay foreign."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgdbpatch.analysis import regset
from kgdbpatch.isa.altivec import MODEL, ROWS, has_altivec
from kgdbpatch.isa.decode import Kind, decode, decode_array
from kgdbpatch.isa.match import extension_of, find_forms, first_altivec, rows
from kgdbpatch.isa.models import MODELS
from kgdbpatch.isa.registers import ALL, FPRS, VECTORS, names
from kgdbpatch.isa.table import TABLE

from .forms import Forms
from .objdump import OBJDUMP, mnemonics, texts

AS = "powerpc-linux-gnu-as"
needs_objdump = pytest.mark.skipif(shutil.which(OBJDUMP) is None, reason=f"{OBJDUMP} is not installed")
needs_as = pytest.mark.skipif(shutil.which(AS) is None, reason=f"{AS} is not installed")
OBJCOPY = "powerpc-linux-gnu-objcopy"
OBJDUMP_MODEL = ("-M", "7450")
OURS = {row.mnemonic for row in ROWS}
RAW = {"mfvrsave": "mfspr", "mtvrsave": "mtspr"}  # what objdump calls them when it is to use no aliases
STREAMS = {"dst", "dstt", "dstst", "dststt", "dss", "dssall"}
FORMS = Forms(MODEL, ROWS, (4, 31), beside=100)
of_rows, beside_rows = FORMS.of_rows, FORMS.beside_rows


@needs_objdump
def test_every_form_is_what_objdump_takes_it_for() -> None:
    expected, words = of_rows(1, 60)
    assert len(OURS) == len(ROWS) > 160
    decoded = decode_array(words, MODEL)
    assert [rows()[form].mnemonic for form in decoded.form.tolist()] == expected
    raw = mnemonics(words, *OBJDUMP_MODEL, "-M", "raw")
    assert [RAW.get(name, name) for name in expected] == raw


@needs_objdump
def test_nothing_else_is_taken_for_a_form() -> None:
    words = beside_rows(2)
    forms = find_forms(words, MODEL)
    raw = np.array(mnemonics(words, *OBJDUMP_MODEL, "-M", "raw"))
    ours = forms >= first_altivec()
    assert ours.sum() > 10_000
    named = np.array([RAW.get(rows()[form].mnemonic, rows()[form].mnemonic) for form in forms.tolist()])
    assert set(named[ours & (named != raw)].tolist()) == set()
    # reserved bits of streams mean nothing to objdump; here such a word is an instruction of other CPUs
    assert set(raw[~ours & np.isin(raw, list(OURS))].tolist()) <= STREAMS


@needs_objdump
def test_text_is_objdumps() -> None:
    names_, words = of_rows(3, 40)
    expected = texts(words, *OBJDUMP_MODEL)
    valid = np.array(
        [not (row in STREAMS and not word >> 16 & 31) for row, word in zip(names_, words, strict=True)]
    )
    for word, text in zip(words[valid].tolist(), np.array(expected)[valid].tolist(), strict=True):
        one = decode(word, 0, MODEL)
        assert (one.text, one.written_for(MODEL)) == (text, text)


@needs_objdump
def test_what_a_74xx_shares_with_a_7xx_has_the_same_text() -> None:
    random = np.random.default_rng(8)
    table = np.array([(row.mask, row.match) for row in TABLE[1:]], np.uint32).repeat(20, axis=0)
    words = table[:, 1] | random.integers(0, 1 << 32, len(table), dtype=np.uint32) & ~table[:, 0]
    words = words[~np.isin(words >> 26, (16, 18, 19))]  # branches: objdump adds hints for this model
    same = 0
    for word, text in zip(words.tolist(), texts(words, *OBJDUMP_MODEL), strict=True):
        ours = decode(word, 0, MODEL).written_for(MODEL)
        if decode(word, 0, MODEL).form < first_altivec():
            assert ours == decode(word).text
        same += ours == text
    assert same > 0.95 * len(words)


@needs_as
def test_the_assembler_makes_the_same_words_of_the_text(tmp_path: Path) -> None:
    _, words = of_rows(4, 20)
    source, made, raw = (tmp_path / name for name in ("all.s", "all.o", "all.bin"))
    source.write_text("".join(f" {decode(word, 0, MODEL).text}\n" for word in words.tolist()))
    subprocess.run([AS, "-m7450", "-mregnames", "-mbig", "-o", made, source], check=True)
    subprocess.run([OBJCOPY, "-O", "binary", "-j", ".text", made, raw], check=True)
    assert np.frombuffer(raw.read_bytes(), ">u4").tolist() == words.tolist()


@given(st.integers(0, 0xFFFFFFFF), st.sampled_from(["", *MODELS]))
def test_models_differ_by_their_extensions_alone(word: int, model: str) -> None:
    found, plain = decode(word, 0x1000, model), decode(word, 0x1000)
    if not extension_of(found.form):
        assert found == plain
    elif not has_altivec(model):
        assert extension_of(found.form) == model
    else:
        assert found.mnemonic in OURS
        assert plain.foreign or found.mnemonic in RAW


def test_on_a_7xx_its_words_are_instructions_of_other_cpus() -> None:
    expected, words = of_rows(5, 8)
    for name, word in zip(expected, words.tolist(), strict=True):
        plain = decode(word)
        if name in RAW:
            assert (plain.mnemonic, plain.foreign) == (RAW[name], False)
        else:
            assert (plain.kind, plain.foreign, plain.defs, plain.uses) == (Kind.FOREIGN, True, 0, ALL)
    assert (find_forms(words) < first_altivec()).all()


def test_arrays_are_decoded_as_single_words() -> None:
    words = np.concatenate([of_rows(6, 8)[1], beside_rows(7)[::50]])
    decoded = decode_array(words, MODEL)
    defs, uses = regset.defs(decoded).tolist(), regset.uses(decoded).tolist()
    for n, word in enumerate(words.tolist()):
        one = decode(word, 0, MODEL)
        assert (one.form, one.kind) == (decoded.form[n], decoded.kind[n])
        assert regset.to_mask(defs[n]) == one.defs & ~FPRS & ~VECTORS
        assert regset.to_mask(uses[n]) == one.uses & ~FPRS & ~VECTORS


def test_what_they_reach() -> None:
    def of(text: str) -> tuple[Kind, list[str], list[str]]:
        found = decode(WORDS[text], 0, MODEL)
        return found.kind, names(found.defs), names(found.uses)

    assert of("vperm v1,v2,v3,v4") == (Kind.ARITHMETIC, ["v1"], ["v2", "v3", "v4"])
    assert of("vaddubs v1,v2,v3") == (Kind.ARITHMETIC, ["v1", "vscr"], ["v2", "v3", "vscr"])
    assert of("vcmpequw. v1,v2,v3") == (Kind.ARITHMETIC, ["cr6", "v1"], ["v2", "v3"])
    assert of("lvx v1,0,r4") == (Kind.LOAD, ["v1"], ["r4"])
    assert of("lvebx v1,r3,r4") == (Kind.LOAD, ["v1"], ["r3", "r4", "v1"])
    assert of("stvx v1,r3,r4") == (Kind.STORE, [], ["r3", "r4", "v1"])
    assert of("dst r3,r4,2") == (Kind.SYSTEM, [], ["r3", "r4"])
    assert of("mtvrsave r3") == (Kind.ARITHMETIC, ["vrsave"], ["r3"])
    with_vec = {text for text in WORDS if decode(WORDS[text], 0, MODEL).vector}
    assert with_vec == set(WORDS) - {"dst r3,r4,2", "mtvrsave r3"}


WORDS = {
    "vperm v1,v2,v3,v4": 0x1022_192B,
    "vaddubs v1,v2,v3": 0x1022_1A00,
    "vcmpequw. v1,v2,v3": 0x1022_1C86,
    "lvx v1,0,r4": 0x7C20_20CE,
    "lvebx v1,r3,r4": 0x7C23_200E,
    "stvx v1,r3,r4": 0x7C23_21CE,
    "dst r3,r4,2": 0x7C43_22AC,
    "mtvrsave r3": 0x7C60_43A6,
}


def test_the_words_above_are_what_they_are_called() -> None:
    assert {text: decode(word, 0, MODEL).text for text, word in WORDS.items()} == {
        text: text for text in WORDS
    }
