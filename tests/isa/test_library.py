"""Instructions of 64-bit and server models: what capstone writes is what objdump means."""

from __future__ import annotations

import random
import re
import shutil

import numpy as np
import pytest

from kgdbpatch.isa.decode import decode
from kgdbpatch.isa.foreign import foreign_rows
from kgdbpatch.isa.models import is_of_models

from .objdump import OBJDUMP, texts

ALIASES = re.compile(r"dcbfps|m[ft](fpr|vr)\w+|td\w+i?|t(suspend|resume)\.")  # that objdump prefers

pytestmark = pytest.mark.skipif(shutil.which(OBJDUMP) is None, reason=f"{OBJDUMP} is not installed")


def _words() -> list[int]:
    rng = random.Random(1)
    drawn = [
        row.match | rng.getrandbits(32) & ~row.mask & 0xFFFFFFFF for row in foreign_rows() for _ in range(3)
    ]
    return [word for word in drawn if decode(word).foreign and not is_of_models(word)]


def test_names_are_objdumps() -> None:
    words = _words()
    judged = texts(np.array(words, np.uint32), "-Mpower10")
    shown = [
        (ours, theirs)
        for ours, theirs in zip([decode(word).text for word in words], judged, strict=True)
        if ".long" not in ours + theirs
    ]
    assert sum(ours == theirs for ours, theirs in shown) > len(shown) // 2
    names = [tuple(text.split()[0] for text in pair) for pair in shown]
    assert [pair for pair in names if len(set(pair)) == 2 and not ALIASES.fullmatch(pair[1])] == []
