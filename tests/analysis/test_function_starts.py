"""Functions guessed in code without symbols: by hand-made code, and by kernels that were stripped."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgdbpatch.analysis.function_starts import guess_functions
from kgdbpatch.guests import Recipe
from kgdbpatch.image import Image
from kgdbpatch.kernel import catalog

_STRIP = "powerpc-linux-gnu-strip"
NOP, BLR, STWU, LI = 0x60000000, 0x4E800020, 0x9421FFF0, 0x38600001
BASE = 0x1000


def _guess(words: list[int], data: list[int] | None = None) -> list[tuple[int, int]]:
    code = [(BASE, np.array(words, dtype=np.uint32))]
    return guess_functions(code, [(0x9000, np.array(data or [], dtype=np.uint32))])


def test_call_targets_and_the_sections_start() -> None:
    words = [0x48000009, BLR, LI, BLR]  # bl to the third word
    assert _guess(words) == [(BASE, 8), (BASE + 8, 8)]


def test_a_bl_that_fetches_the_pc_is_no_call() -> None:
    assert _guess([0x48000005, 0x7C6802A6, BLR]) == [(BASE, 12)]
    assert _guess([0x429F0005, 0x7C6802A6, BLR]) == [(BASE, 12)]


def test_a_prologue_begins_behind_the_last_end_and_its_filler() -> None:
    words = [LI, BLR, NOP, 0, LI, STWU, BLR]  # the compiler put an instruction before the stwu
    assert _guess(words) == [(BASE, 8), (BASE + 16, 12)]


def test_a_stack_frame_in_the_middle_begins_no_function() -> None:
    words = [0x2C030000, 0x41820008, BLR, STWU, BLR]  # beq over the blr: shrink-wrapped
    assert _guess(words) == [(BASE, 20)]


def test_pointers_in_data_and_in_code() -> None:
    words = [0x3C600000, 0x38631010, BLR, NOP, LI, BLR, LI, BLR]  # lis r3,0; addi r3,r3,0x1010
    assert _guess(words) == [(BASE, 12), (BASE + 16, 16)]
    assert _guess(words, [BASE + 24, BASE + 4]) == [(BASE, 12), (BASE + 16, 8), (BASE + 24, 8)]


def _call(source: int, target: int) -> int:
    """Return the ``bl`` at one word that calls another."""
    return 0x48000001 | 4 * (target - source) & 0x03FFFFFC


def test_room_for_a_tracer_belongs_to_the_function_behind_it() -> None:
    """Functions that are called begin with two nops; one that is not is known by its prologue alone."""
    words = [
        *(NOP, NOP, STWU, _call(3, 10), _call(4, 14), BLR),
        *(NOP, NOP, STWU, BLR),  # called by nobody
        *(NOP, NOP, STWU, BLR),
        *(NOP, NOP, LI, BLR),
    ]
    assert _guess(words) == [(BASE, 24), (BASE + 24, 16), (BASE + 40, 16), (BASE + 56, 16)]
    padded = [*words[:6], NOP, NOP, *words[6:]]  # two more than are its own, before the second
    padded[3:5] = [_call(3, 12), _call(4, 16)]
    assert _guess(padded)[:2] == [(BASE, 24), (BASE + 32, 16)]


def test_nops_of_alignment_belong_to_no_function() -> None:
    """What is called begins behind them, or nothing that is called begins with any."""
    called = [STWU, _call(1, 6), BLR, 0, NOP, NOP, STWU, BLR, NOP, NOP, STWU, BLR]
    assert _guess(called) == [(BASE, 12), (BASE + 24, 8), (BASE + 40, 8)]
    most = [
        *(NOP, NOP, STWU, _call(3, 10), _call(4, 14), _call(5, 20), BLR, 0, NOP, NOP),
        *(NOP, NOP, STWU, BLR),
        *(NOP, NOP, STWU, BLR, NOP, NOP),
        *(STWU, BLR),  # called: it begins here, though most do with nops
    ]
    assert _guess(most)[-1] == (BASE + 80, 8)


def test_a_tail_call_leaves_its_function() -> None:
    words = [0x48000011, BLR, LI, BLR, 0x4BFFFFF8]  # bl to the last word, which jumps to the third
    assert _guess(words) == [(BASE, 8), (BASE + 8, 8), (BASE + 16, 4)]


@given(st.lists(st.integers(0, 0xFFFFFFFF), max_size=60), st.lists(st.integers(0x0FF0, 0x1100), max_size=9))
def test_any_words_give_functions_in_order_that_do_not_overlap(words: list[int], data: list[int]) -> None:
    end = BASE
    for address, size in _guess(words, data):
        assert address >= end
        assert size > 0
        assert address % 4 == size % 4 == 0
        end = address + size
    assert end <= BASE + 4 * len(words)


@pytest.mark.parametrize(
    ("profile", "precision", "recall"),
    [("darwin", 0.96, 0.90), pytest.param("linux", 0.98, 0.95, marks=pytest.mark.linux)],
)
def test_a_stripped_kernel(profile: str, precision: float, recall: float, tmp_path: Path) -> None:
    path = Recipe.find(profile).image_path()
    if path is None:
        pytest.skip(f"the image of '{profile}' is not built; run: kgdbpatch image build {profile}")
    if not shutil.which(_STRIP):
        pytest.skip(f"{_STRIP} is not installed")
    stripped = tmp_path / "kernel"
    elf = path.with_suffix(".elf") if profile == "darwin" else path  # strip does not know Mach-O
    subprocess.run([_STRIP, "-s", "-o", stripped, elf], check=True)
    digits = b"".join(b"%d\0" % digit for digit in range(10))  # by which Linux's own symbols are found
    stripped.write_bytes(stripped.read_bytes().replace(digits, bytes(len(digits))))
    assert Image.load(stripped).functions == ()
    guessed = catalog.open_image(str(stripped))
    assert all(function.guessed for function in guessed.functions)
    known = {function.address: function.size for function in Image.load(path).functions}
    found = {function.address: function.size for function in guessed.functions}
    right = known.keys() & found.keys()
    exact = sum(known[address] == found[address] for address in right) / len(right)
    print(
        f"{profile}: {len(found)} guessed, {len(known)} known; precision {len(right) / len(found):.4f}, "
        f"recall {len(right) / len(known):.4f}, sizes exact {exact:.4f}"
    )
    assert len(right) / len(found) > precision
    assert len(right) / len(known) > recall
    assert exact > 0.9
    some = guessed.functions[len(guessed.functions) // 2]
    assert guessed.lookup(some.name) == some.address
    assert guessed.symbolize(some.address + 4) == f"{some.name}+0x4"
