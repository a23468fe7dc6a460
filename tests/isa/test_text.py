"""Text is GNU objdump's, word for word.

The dialect is that of ``-m powerpc`` with no ``-M``: what ``objdump -d`` takes by itself for a kernel that
names no CPU. ``-m powerpc:750`` differs in two ways only: it writes ``+`` or ``-`` behind every conditional
branch, and it knows none with the hints of later models, which a 7xx runs all the same.
"""

from __future__ import annotations

import re
import shutil

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgdbpatch.isa.decode import decode
from kgdbpatch.isa.match import find_forms
from kgdbpatch.isa.models import MODELS, text_of_model
from kgdbpatch.isa.table import TABLE, Kind

from .objdump import OBJDUMP, texts

pytestmark = pytest.mark.skipif(shutil.which(OBJDUMP) is None, reason=f"{OBJDUMP} is not installed")

Words = npt.NDArray[np.uint32]
_START = 0xFFF00000  # some branches wrap
_BO = np.arange(32, dtype=np.uint32)


def _of_rows(count: int) -> Words:
    """Return random words of every row, many with operands that are zero, alike, or all ones."""
    random = np.random.default_rng(11)
    found = []
    for row in TABLE[1:]:
        free = np.uint32(~row.mask & 0xFFFFFFFF)
        bits = random.integers(0, 1 << 32, (4, count), dtype=np.uint32)
        alike = (bits[2] >> np.uint32(11) & np.uint32(31)) * np.uint32(1 << 21 | 1 << 16 | 1 << 11)
        bits[1] &= random.integers(0, 1 << 32, count, dtype=np.uint32)
        bits[2] = bits[2] & np.uint32(0xFC0007FF) | alike
        bits[3, ::2] &= np.uint32(0xFFE0FFFF)  # rA = 0
        bits[3, 1::2] |= np.uint32(0x000FF000)  # all of FXM
        found.append(np.uint32(row.match) | bits.ravel() & free)
    return np.concatenate(found)


def _rotations() -> Words:
    """Return rlwinm and rlwnm of every mask that has a name of its own, and those beside them."""
    shift, begin, end = np.meshgrid(np.arange(32), (0, 1, 5, 30, 31), (0, 1, 26, 30, 31), indexing="ij")
    named = [(n, 0, 31 - n) for n in range(32)] + [(n, 32 - n & 31, 31) for n in range(32)]
    fields = np.concatenate([np.stack([a.ravel() for a in (shift, begin, end)], axis=1), np.array(named)])
    low = (fields << np.array([11, 6, 1])).sum(axis=1).astype(np.uint32)
    return np.concatenate([np.uint32(first << 26 | 3 << 21 | 4 << 16) | low for first in (20, 21, 23)])


def _branches() -> Words:
    """Return every BO and BI of every branch, linked or not, absolute or not, with every BH and some ways."""
    condition = (_BO[:, None] << np.uint32(21) | _BO[None, :] << np.uint32(16)).ravel()
    ends = np.array([d | low for d in (0, 4, 0x7FFC, 0x8000, 0xFFF8) for low in range(4)], dtype=np.uint32)
    hints = np.array([bh << 11 | link for bh in (0, 1, 2, 3, 4, 31) for link in (0, 1)], dtype=np.uint32)
    direct = np.uint32(16 << 26) | condition[:, None] | ends
    through = [np.uint32(19 << 26 | to << 1) | condition[:, None] | hints for to in (16, 528)]
    far = np.uint32(18 << 26) | np.random.default_rng(5).integers(0, 1 << 26, 200, dtype=np.uint32)
    return np.concatenate([a.ravel() for a in (direct, *through, far)])


def _unlike(words: Words) -> list[tuple[str, str, str]]:
    written = texts(words, start=_START)
    return [
        (hex(word), ours, theirs)
        for n, (word, theirs) in enumerate(zip(words.tolist(), written, strict=True))
        if (ours := decode(word, _START + 8 * n & 0xFFFFFFFF).text) != theirs
    ]


@pytest.mark.parametrize(
    "words", [_of_rows(12), _rotations(), _branches()], ids=["rows", "rotations", "branches"]
)
def test_text_is_objdumps(words: Words) -> None:
    forms = find_forms(words)
    words = words[(forms > 0) & (forms < len(TABLE))]
    assert len(words) > 500
    assert _unlike(words)[:20] == []


def test_text_by_hand() -> None:
    assert decode(0x429F0005, 0x1000).text == "bcl 20,4*cr7+so,0x1004"
    assert decode(0x38600005).text == "li r3,5"
    assert decode(0).text == ".long 0x00000000"
    assert decode(0x48001000, 0xFFFFF800).text == "b 0x800"  # addresses wrap
    assert decode(0x4182FFF0, 4).text == "beq 0xfffffff4"


def test_every_special_register_is_named_as_objdump_does() -> None:
    numbers = np.arange(1024, dtype=np.uint32)
    fields = (numbers & np.uint32(31)) << np.uint32(16) | numbers >> np.uint32(5) << np.uint32(11)
    words = np.concatenate([np.uint32(0x7C6002A6) | fields, np.uint32(0x7C6003A6) | fields])
    assert _unlike(words) == []


def _goes(text: str, kind: Kind) -> bool:
    """Tell whether objdump's name of a branch is that of one which may also go on."""
    if kind is Kind.BRANCH:
        return True
    return not re.match(r"(bl?a?|b(lr|ctr)l?|bc(lr|ctr)?l?a? (20),\S*)( |$)", text)


def test_a_branch_goes_where_objdumps_name_says() -> None:
    words = _branches()
    words = words[words >> 26 != 18]
    for word, theirs in zip(words.tolist(), texts(words), strict=True):
        if theirs.startswith(".long"):
            continue
        found, name = decode(word), theirs.split(" ")[0].rstrip("+-")
        assert found.conditional == _goes(theirs, found.kind), theirs
        linked = word & 1 == 1
        assert found.links == linked
        assert (found.kind is Kind.RETURN) == (name.endswith("lr") and not linked)
        assert (found.kind is Kind.INDIRECT) == (name.endswith("ctr") and not linked)


@pytest.mark.parametrize("model", MODELS)
def test_other_models_words_are_theirs(model: str) -> None:
    random = np.random.default_rng(3)
    # mostly words of one model's own instructions: any low half below the primary opcodes that differ
    words = np.concatenate(
        [
            random.integers(0, 1 << 26, 500, dtype=np.uint32) | np.uint32(first << 26)
            for first in (4, 4, 4, 19, 30, 31, 31, 31, 56, 57, 58, 59, 60, 61, 62, 63)
        ]
    )
    plain, raw = texts(words, "-M", model), texts(words, "-M", f"{model},raw")
    wrong, named = [], 0
    for word, theirs, other in zip(words.tolist(), plain, raw, strict=True):
        ours = text_of_model(word, model)
        named += ours is not None
        if ours not in (None, theirs, other):
            wrong.append((hex(word), ours, theirs))
    assert wrong == []
    assert named > 0


def test_without_a_model_nothing_is_said_that_a_model_denies() -> None:
    words = np.random.default_rng(4).integers(0, 1 << 26, 4000, dtype=np.uint32) | np.uint32(4 << 26)
    chosen = ("e500", "7450", "750cl")
    answers = [texts(words, "-M", f"{model},raw") for model in chosen]
    said = 0
    for word, *theirs in zip(words.tolist(), *answers, strict=True):
        ours = decode(word).text
        meant = {one for one in theirs if not one.startswith(".long")}
        assert ours.startswith(".long") or len(meant) < 2
        said += not ours.startswith(".long")
    assert said > 200


@given(
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, 0x3FFFFFFF).map(lambda n: 4 * n),
    st.sampled_from(["", *MODELS]),
)
def test_every_word_has_one_line_of_text(word: int, address: int, model: str) -> None:
    text = decode(word, address).written_for(model)
    assert text
    assert text == " ".join(text.split())
    assert text.isprintable()
