"""Every word of the Linux image: objdump's mnemonic, and the class that the name stands for."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from kgdbpatch.guests import Recipe
from kgdbpatch.image import Image
from kgdbpatch.isa.decode import Kind, decode_array
from kgdbpatch.isa.match import rows

from .objdump import OBJDUMP

pytestmark = [
    pytest.mark.linux,
    pytest.mark.skipif(shutil.which(OBJDUMP) is None, reason=f"{OBJDUMP} is not installed"),
]

Words = npt.NDArray[np.uint32]

# The table has rows of their own for the special registers that are tracked; comparisons carry
# the operand size in their name.
_OURS = {
    **{f"mt{name}": "mtspr" for name in ("lr", "ctr", "xer", "srr0", "srr1")},
    **{f"mf{name}": "mfspr" for name in ("lr", "ctr", "xer", "srr0", "srr1")},
    "cmpw": "cmp",
    "cmplw": "cmpl",
    "cmpwi": "cmpi",
    "cmplwi": "cmpli",
}
_ARITHMETIC = (
    r"(add|subf|mul|div|neg|and|or|xor|nand|nor|eqv|sl|sr|rlw|cntlz|exts|cmp|f[a-z]|mtfs|mffs|cr|mcrf|"
    r"mtcrf|mfcr|mcrxr|mftb).*"
)
_CLASSES: list[tuple[str, Kind]] = [  # by objdump's names, the first that fits
    (r"b(cl|l)a?|b\w*(lrl|ctrl)", Kind.CALL),
    (r"ba?", Kind.JUMP),
    (r"b\w*lr", Kind.RETURN),
    (r"b\w*ctr", Kind.INDIRECT),
    (r"b(eq|ne|lt|gt|le|ge|so|ns|un|nu|dn?z[tf]?|t|f|c)\w?", Kind.BRANCH),
    (r"sc", Kind.SYSCALL),
    (r"rfi", Kind.RFI),
    (r"tw.*|trap", Kind.TRAP),
    (r"dcbz|st.*", Kind.STORE),
    (r"m[tf]spr (1|8|9|26[89]|284|285)", Kind.ARITHMETIC),
    (r"m[tf](spr|msr|sr|srin).*|sync|isync|eieio|dcb.*|icbi|tlb.*", Kind.SYSTEM),
    (r"dss.*", Kind.FOREIGN),
    (_ARITHMETIC, Kind.ARITHMETIC),
    (r"l.*", Kind.LOAD),
]


def _listing(path: Path, *options: str) -> dict[int, str]:
    """Return the mnemonic that objdump gives each distinct word, ".long" where it knows none."""
    text = subprocess.run([OBJDUMP, "-d", *options, path], capture_output=True, check=True).stdout
    lines = (line.split(b"\t", 3) for line in text.splitlines())
    pairs = {(parts[1], parts[2].split(b" ", 1)[0]) for parts in lines if len(parts) > 2}
    return {int(word.replace(b" ", b""), 16): name.decode().rstrip("+-") for word, name in pairs}


@pytest.fixture(scope="module")
def linux() -> Path:
    path = Recipe.find("linux").image_path()
    if path is None:
        pytest.skip("the image of 'linux' is not built; run: kgdbpatch image build linux")
    return path


@pytest.fixture(scope="module")
def plain(linux: Path) -> dict[int, str]:
    return _listing(linux)


@pytest.fixture(scope="module")
def raw(linux: Path) -> dict[int, str]:
    return _listing(linux, "-M", "raw")


def _array(words: Iterable[int]) -> Words:
    return np.fromiter(words, dtype=np.uint32)


def test_the_listing_is_of_the_whole_image(linux: Path, plain: dict[int, str]) -> None:
    image = Image.load(linux)
    distinct = np.unique(np.concatenate([image.words(section) for section in image.code_sections()]))
    unlisted = set(distinct.tolist()) - plain.keys()
    assert unlisted <= {0}  # objdump skips runs of zeros
    assert len(plain) > 100_000


def test_whatever_objdump_decodes_is_decoded_and_nothing_else(plain: dict[int, str]) -> None:
    known = decode_array(_array(plain)).known.tolist()
    unlike = [
        hex(word)
        for (word, name), ours in zip(plain.items(), known, strict=True)
        if ours != (name != ".long")
    ]
    assert unlike == []


def test_mnemonics_are_objdumps(raw: dict[int, str], plain: dict[int, str]) -> None:
    forms = decode_array(_array(raw)).form.tolist()
    unlike = {
        (name, rows()[form].mnemonic)
        for (word, name), form in zip(raw.items(), forms, strict=True)
        # without aliases objdump does not know hinted branches
        if plain[word] != ".long"
        and name not in (".long", _OURS.get(rows()[form].mnemonic, rows()[form].mnemonic))
    }
    assert unlike == set()


def test_classes_are_what_the_names_stand_for(plain: dict[int, str], raw: dict[int, str]) -> None:
    kinds = decode_array(_array(plain)).kind.tolist()
    unlike: set[tuple[str, str]] = set()
    for (word, name), kind in zip(plain.items(), kinds, strict=True):
        if name == ".long":
            continue
        if not name.startswith("b"):  # branches have telling names, of others the alias may mislead
            name = raw[word]
            if name in ("mtspr", "mfspr"):
                name += f" {word >> 16 & 31 | (word >> 11 & 31) << 5}"
        expected = next((kind for pattern, kind in _CLASSES if re.fullmatch(pattern, name)), None)
        if expected is not Kind(kind):
            unlike.add((name, Kind(kind).name))
    assert unlike == set()
