"""What a compiler wrote down of its functions is the oracle of where functions begin and end."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kgdbpatch.guests import Recipe
from kgdbpatch.image import Image

from .conftest import BLR, NOP, macho
from .machofile import (
    N_ABS,
    N_EXT,
    N_SECT,
    PURE_INSTRUCTIONS,
    MachO,
    Part,
    Symbols,
    function_pairs,
    function_stabs,
)

_TEXT = 0x3000


def _sizes(image: Image) -> dict[int, int]:
    return {function.address: function.size for function in image.functions}


def test_the_pairs_of_a_file_are_read() -> None:
    file = macho()
    assert function_pairs(file.build()) == {}
    file.symbols += function_stabs("f", 2, 0x3000, 0x10) + function_stabs("static", 2, 0x3010, 0x10)
    assert function_pairs(file.build()) == {0x3000: 0x10, 0x3010: 0x10}


@st.composite
def _functions(draw: st.DrawFn) -> list[tuple[int, bool, int, int]]:
    """Draw for each function its words, whether it is exported, and how many aliases and labels it has."""
    one = st.tuples(st.integers(1, 12), st.booleans(), st.integers(0, 2), st.integers(0, 3))
    return draw(st.lists(one, min_size=1, max_size=20))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(functions=_functions())
def test_macho_functions_equal_their_n_fun_pairs(
    tmp_path: Path, functions: list[tuple[int, bool, int, int]]
) -> None:
    symbols: Symbols = [("_absolute", N_ABS | N_EXT, 0, _TEXT + 4), ("_data", N_SECT, 2, 0x8000)]
    code, address = b"", _TEXT
    for number, (words, exported, aliases, labels) in enumerate(functions):
        kind = N_SECT | (N_EXT if exported else 0)
        symbols.append((f"_f{number}", kind, 1, address))
        symbols += [(f"_f{number}_also{n}", kind, 1, address) for n in range(aliases)]
        symbols += [(f"L{number}_{n}", N_SECT, 1, address + 4 * (n % words)) for n in range(labels)]
        symbols += function_stabs(f"f{number}", 1, address, 4 * words)
        code += NOP * (words - 1) + BLR
        address += 4 * words
    parts = [
        Part("__TEXT", "__text", _TEXT, code, flags=PURE_INSTRUCTIONS),
        Part("__DATA", "__data", 0x8000, bytes(8)),
    ]
    data = MachO(parts=parts, symbols=symbols, entry=_TEXT).build()
    (tmp_path / "kernel").write_bytes(data)
    assert _sizes(Image.load(tmp_path / "kernel")) == function_pairs(data)


def test_darwins_functions_are_as_large_as_the_compiler_said() -> None:
    path = Recipe.find("darwin").image_path()
    if path is None:
        pytest.skip("the image of 'darwin' is not built; run: kgdbpatch image build darwin")
    if not shutil.which("powerpc-linux-gnu-readelf"):
        pytest.skip("powerpc-linux-gnu-readelf is not installed")
    image = Image.load(path)
    ours = _sizes(image)
    elf = path.with_suffix(".elf")  # the same link, before it became Mach-O
    listing = subprocess.run(
        ["powerpc-linux-gnu-readelf", "-sW", elf], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split() for line in listing.splitlines() if " FUNC " in line]
    theirs = {int(row[1], 16): int(row[2], 0) for row in rows if int(row[2], 0)}
    assert len(theirs) > 200
    assert {
        address: (size, ours.get(address)) for address, size in theirs.items() if ours.get(address) != size
    } == {}
    pairs = function_pairs(path.read_bytes())
    assert {address: ours.get(address) for address in pairs} == pairs
