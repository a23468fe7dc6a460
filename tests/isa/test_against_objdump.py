"""objdump is the judge of what is an instruction: no word it knows may stay undecoded."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from kgdbpatch.isa.decode import Kind, decode_array
from kgdbpatch.isa.fields import Words
from kgdbpatch.isa.match import rows
from kgdbpatch.isa.table import TABLE

from .objdump import OBJDUMP, mnemonics

pytestmark = pytest.mark.skipif(shutil.which(OBJDUMP) is None, reason=f"{OBJDUMP} is not installed")

# lm is POWER's lmw (the base is among the loaded registers); mtocrf of several fields is no form
ALIASES = {("dcbt", "dcbtct"), ("dcbtst", "dcbtstct"), ("lmw", "lm"), ("mtocrf", ""), ("sync", "hwsync")}
LIBRARIES = [Path("/usr/powerpc-linux-gnu/lib", name) for name in ("libc.so.6", "libm.so.6", "ld.so.1")]
WORDS = 200_000

# Words that objdump rejects for reasons no mask can say: hints in BO, rA = 0 or rA = rD in an
# update, several fields in mtocrf. A 7xx runs the first; the others read everything here.
COARSE = re.compile(r"bc\w*|\w+ux?|mtocrf")


def _random(seed: int, count: int) -> Words:
    return np.random.default_rng(seed).integers(0, 1 << 32, count, dtype=np.uint32)


def _near_rows(seed: int, count: int) -> Words:
    """Return words of known forms, half of them with a bit flipped."""
    table = np.array([(row.mask, row.match) for row in rows()[1:]], dtype=np.uint32)
    random = np.random.default_rng(seed)
    mask, match = table[random.integers(0, len(table), count)].T
    words: Words = match | (_random(seed + 1, count) & ~mask)
    words[: count // 2] ^= np.uint32(1) << random.integers(0, 26, count // 2).astype(np.uint32)
    return words


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(_random(1, WORDS), id="random"),
        pytest.param(_random(2, WORDS) & _random(3, WORDS), id="sparse"),
        pytest.param(_near_rows(4, WORDS), id="near-forms"),
    ],
)
def test_every_word_objdump_knows_is_decoded(words: Words) -> None:
    words = words[words >> 26 != 1]  # the first halves of 64-bit instructions mean nothing alone
    known = np.array([bool(name) for name in mnemonics(words)])
    decoded = decode_array(words)
    missed = words[known & ~decoded.known]
    assert [hex(word) for word in missed[:20]] == []
    exact = (decoded.form > 0) & (decoded.form < len(TABLE)) & ~known
    surplus = {rows()[form].mnemonic for form in decoded.form[exact]}
    assert {name for name in surplus if not COARSE.fullmatch(name)} == set()


@pytest.mark.parametrize("model", ["750cl", "7450", "altivec", "e300", "e500", "spe,e500", "603"])
def test_every_word_of_other_models_is_known_by_name(model: str) -> None:
    words = np.concatenate(
        [_random(5, 20_000) & np.uint32(0x3FFFFFF) | np.uint32(n << 26) for n in (4, 19, 31, 59, 63)]
    )
    known = np.array([bool(name) for name in mnemonics(words, "-M", model)])
    assert known.sum() > 3000
    decoded = decode_array(words)
    assert [hex(word) for word in words[known & ~decoded.known][:20]] == []


@pytest.mark.parametrize("path", LIBRARIES, ids=lambda path: path.name)
def test_code_of_a_real_file_is_decoded_as_objdump_does(path: Path) -> None:
    if not path.exists():
        pytest.skip("libc6-powerpc-cross is not installed")
    listing = subprocess.run([OBJDUMP, "-d", "-z", path], capture_output=True, check=True, text=True).stdout
    lines = re.findall(r"^ *[0-9a-f]+:\t([0-9a-f]{2}) (..) (..) (..) *\t(\S+)", listing, re.MULTILINE)
    assert len(lines) > 1000
    words = np.array([int("".join(line[:4]), 16) for line in lines], dtype=np.uint32)
    known = np.array([line[4] != ".long" for line in lines])
    assert (decode_array(words).known == known).all()


def test_names_are_those_of_objdump() -> None:
    # Branches and traps have names for every condition. Distinct operands avoid the other aliases.
    plain = {Kind.ARITHMETIC, Kind.LOAD, Kind.STORE, Kind.SYSTEM, Kind.RFI, Kind.SYSCALL}
    own = [row for row in TABLE[1:] if row.kind in plain and row.mnemonic != "mfspr"]
    operands = 3 << 21 | 4 << 16 | 6 << 11 | 7 << 6 | 3 << 12
    words = np.array([row.match | (operands & ~row.mask) for row in own], dtype=np.uint32)
    ours = [row.mnemonic for row in own]
    unlike = {(mine, name) for mine, name in zip(ours, mnemonics(words), strict=True) if mine != name}
    assert unlike == ALIASES
