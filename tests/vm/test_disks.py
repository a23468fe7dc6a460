"""A disk of the user's is never written: its guest gets an overlay."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from kgdbpatch.errors import BadImage
from kgdbpatch.vm.disks import overlay

pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="not installed: qemu-img")


def io(image: Path, command: str) -> str:
    return subprocess.run(
        ["qemu-io", "-f", "qcow2", "-c", command, image], check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.parametrize("kind", ["raw", "qcow2", "vmdk"])
def test_what_is_written_goes_to_the_overlay(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "a:b, c"
    place.mkdir()
    disk = place / "disk"
    (tmp_path / "content").write_bytes(b"A" * 65536)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", kind, tmp_path / "content", disk], check=True)
    before = disk.read_bytes()
    made = overlay(disk, tmp_path / "over.qcow2")
    io(made, "write -P 0x42 512 512")
    assert "Pattern verification failed" not in io(made, "read -P 0x41 0 512")  # what was there
    assert "Pattern verification failed" not in io(made, "read -P 0x42 512 512")
    assert disk.read_bytes() == before
    told = json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", made]))
    assert told["backing-filename-format"] == kind


def test_what_is_no_disk(tmp_path: Path) -> None:
    for path, words in ((tmp_path / "none", "no such file"), (tmp_path, "a directory")):
        with pytest.raises(BadImage, match=words):
            overlay(path, tmp_path / "over.qcow2")
    (tmp_path / "damaged").write_bytes(b"QFI\xfb" + bytes(3) + b"\x03" + bytes(100))
    with pytest.raises(BadImage, match="damaged") as caught:
        overlay(tmp_path / "damaged", tmp_path / "over.qcow2")
    assert len(str(caught.value).splitlines()) == 1
