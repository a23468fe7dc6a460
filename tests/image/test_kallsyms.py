"""The symbols that a Linux keeps about itself: of the real kernel, and in every layout."""

from __future__ import annotations

import shutil
import subprocess
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kgdbpatch.errors import BadImage
from kgdbpatch.guests import Recipe
from kgdbpatch.image import Image
from kgdbpatch.image.kallsyms import find_kallsyms
from kgdbpatch.image.memory import image_from_memory

from .kallsyms_blob import LAYOUTS, blob

_NAMES = st.text("abcdefghinsty_.0123456789", min_size=1, max_size=200)
_ROOM = 1024  # enough names for several markers


@st.composite
def _symbols(draw: st.DrawFn) -> list[tuple[str, str, int]]:
    some = draw(st.lists(st.tuples(_NAMES, st.sampled_from("tTdDbBrRwW")), min_size=1, max_size=20))
    count = draw(st.sampled_from([600, _ROOM, _ROOM + 1]))
    return [(*some[n % len(some)], 0xC0000000 + 12 * n) for n in range(count)]


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(symbols=_symbols(), before=st.integers(0, 300), noise=st.binary(max_size=64))
def test_every_layout_is_read(
    layout: str, symbols: list[tuple[str, str, int]], before: int, noise: bytes
) -> None:
    memory = bytes(4 * before) + noise.ljust(64, b"\xaa") + blob(symbols, layout) + noise
    found = find_kallsyms(memory)
    assert found is not None
    assert [(s.name, s.kind, s.address) for s in found.symbols] == symbols


@pytest.mark.parametrize("layout", LAYOUTS)
def test_damage_gives_nothing_or_symbols_but_no_error(layout: str) -> None:
    symbols = [(f"sys_thing{n}", "t", 0xC0000000 + 4 * n) for n in range(_ROOM)]
    whole = blob(symbols, layout)
    for at in range(0, len(whole), 97):
        find_kallsyms(whole[:at])
        find_kallsyms(whole[:at] + b"\xff" + whole[at + 1 :])
        find_kallsyms(whole[at:])


def test_memory_without_a_kernel() -> None:
    assert find_kallsyms(b"") is None
    assert find_kallsyms(b"0\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00") is None
    with pytest.raises(BadImage, match="no symbols of a Linux kernel"):
        image_from_memory("g", [(0, bytes(4096)), (1 << 24, b"Linux version ")])


@pytest.mark.linux
def test_a_kernels_own_symbols_are_nms() -> None:
    path = Recipe.find("linux").image_path()
    if path is None:
        pytest.skip("the image of 'linux' is not built; run: kgdbpatch image build linux")
    if not shutil.which("powerpc-linux-gnu-nm"):
        pytest.skip("powerpc-linux-gnu-nm is not installed")
    image = Image.load(path)
    low, high = image.segments[0].address, image.segments[-1].end
    found = find_kallsyms(image.read(low, high - low))
    assert found is not None
    listing = subprocess.run(
        ["powerpc-linux-gnu-nm", "--format=posix", path], capture_output=True, text=True, check=True
    ).stdout
    theirs = {
        (name, int(value, 16)) for name, _, value, *_ in (line.split() for line in listing.splitlines())
    }
    ours = {(symbol.name, symbol.address) for symbol in found.symbols}
    assert ours <= theirs
    functions = {(name, f.address) for f in image.functions for name in (f.name, *f.aliases)}
    assert functions <= ours
    assert [s.address for s in found.symbols] == sorted(s.address for s in found.symbols)


def test_memory_full_of_what_looks_like_markers_takes_no_long() -> None:
    symbols = [(f"sys_thing{n}", "t", 0xC0000000 + 4 * n) for n in range(_ROOM)]
    tables = blob(symbols, "offsets")
    before = (bytes(4) + (0x400).to_bytes(4, "big")) * 20_000  # a list of markers at every second word
    start = time.process_time()
    found = find_kallsyms(before + b"\xff" * 8 + tables[4096:] + before + tables)
    assert found is not None
    assert len(found.symbols) == _ROOM
    assert time.process_time() - start < 20
