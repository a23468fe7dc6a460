"""A Linux without a symbol table is read by the symbols that it keeps of itself (kallsyms)."""

from __future__ import annotations

import gzip
import subprocess
from pathlib import Path

import pytest

from kgdbpatch.guests import Recipe
from kgdbpatch.image import Image

pytestmark = pytest.mark.linux
_NM, _STRIP = "powerpc-linux-gnu-nm", "powerpc-linux-gnu-strip"


@pytest.fixture(scope="module")
def vmlinux() -> Path:
    path = Recipe.find("linux").image_path()
    if path is None:
        pytest.skip("the image of 'linux' is not built; run: kgdbpatch image build linux")
    return path


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_functions_are_those_of_nm(vmlinux: Path, pack: type[bytes], tmp_path: Path) -> None:
    subprocess.run([_STRIP, "-s", "-R", ".comment", vmlinux, "-o", tmp_path / "stripped"], check=True)
    (tmp_path / "kernel").write_bytes(pack((tmp_path / "stripped").read_bytes()))
    image = Image.load(tmp_path / "kernel")
    listed = subprocess.run([_NM, vmlinux], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    stay = {(name, int(address, 16)) for address, kind, name in rows if kind in "tT" and "." not in name}
    found = {(symbol.name, symbol.address) for symbol in image.symbols}
    assert len(stay & found) > 0.99 * len(stay)
    known = Image.load(vmlinux)
    for name in ("udp_sendmsg", "start_kernel", "do_sys_openat2", "jiffies_64"):
        assert image.lookup(name) == known.lookup(name)
    assert image.function_at(image.lookup("udp_sendmsg") + 8) == known.function_at(
        known.lookup("udp_sendmsg")
    )
