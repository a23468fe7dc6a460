from __future__ import annotations

import shutil
import subprocess
import time

import pytest

from kgdbpatch.guests import Recipe
from kgdbpatch.image import Image

_LINKER_MARKERS = {"_etext", "_einittext", "__secondary_hold_spinloop", "optinsn_slot"}
_LINKER_MARKERS |= {"ftrace_tramp_text", "ftrace_tramp_init"}


def _load(profile: str) -> Image:
    path = Recipe.find(profile).image_path()
    if path is None:
        pytest.skip(f"the image of '{profile}' is not built; run: kgdbpatch image build {profile}")
    return Image.load(path)


@pytest.fixture(scope="module")
def linux() -> Image:
    return _load("linux")


@pytest.mark.linux
def test_linux_functions_are_those_of_nm(linux: Image) -> None:
    if not shutil.which("powerpc-linux-gnu-nm"):
        pytest.skip("powerpc-linux-gnu-nm is not installed")
    listing = subprocess.run(
        ["powerpc-linux-gnu-nm", "--format=posix", linux.path], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split() for line in listing.splitlines()]
    code = linux.code_sections()
    theirs = {
        (name, int(address, 16))
        for name, kind, address, *_ in rows
        if kind in "TtW" and any(int(address, 16) in section for section in code)
    }
    ours = {(n, f.address) for f in linux.functions for n in (f.name, *f.aliases)}
    assert {name for name, _ in theirs - ours} <= _LINKER_MARKERS
    assert len(ours) > 10_000
    assert ours <= theirs


@pytest.mark.linux
def test_linux_functions_are_as_large_as_their_symbols_say(linux: Image) -> None:
    if not shutil.which("powerpc-linux-gnu-readelf"):
        pytest.skip("powerpc-linux-gnu-readelf is not installed")
    listing = subprocess.run(
        ["powerpc-linux-gnu-readelf", "-sW", linux.path], capture_output=True, text=True, check=True
    ).stdout
    # Num: Value Size Type Bind Vis Ndx Name
    rows = [line.split() for line in listing.splitlines() if " FUNC " in line]
    theirs = {int(row[1], 16): int(row[2], 0) for row in rows if int(row[2], 0)}
    ours = {function.address: function.size for function in linux.functions}
    assert len(theirs) > 10_000
    assert {
        address: (size, ours.get(address)) for address, size in theirs.items() if ours.get(address) != size
    } == {}


@pytest.mark.linux
def test_linux_functions_cover_the_code_and_do_not_overlap(linux: Image) -> None:
    size = sum(section.size for section in linux.code_sections())
    assert sum(function.size for function in linux.functions) > 0.97 * size
    for function, following in zip(linux.functions, linux.functions[1:], strict=False):
        assert function.end <= following.address


@pytest.mark.linux
def test_linux_loads_in_well_under_a_second(linux: Image) -> None:
    best = min(_seconds(linux) for _ in range(3))
    assert best < 1.0


def _seconds(image: Image) -> float:
    start = time.process_time()  # other processes' work does not count
    assert len(Image.load(image.path).functions) == len(image.functions)
    return time.process_time() - start


def test_darwin_has_the_papers_sections() -> None:
    image = _load("darwin")
    assert {"__TEXT,__text", "__VECTORS,__interrupts"} <= {s.name for s in image.code_sections()}
    function = image.function_at(image.lookup("run_netisr"))
    assert function is not None
    assert function.name == "_run_netisr"
    assert image.section_at(image.entry) in image.code_sections()
