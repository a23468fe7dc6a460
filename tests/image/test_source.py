"""A kernel's file is read when its words are asked for, and hashed when it has changed."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from pathlib import Path

import pytest

from kgdbpatch.errors import BadImage
from kgdbpatch.image import Image
from kgdbpatch.image.source import KernelFile


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KGDBPATCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "files"


@pytest.fixture
def kernel(elf_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(elf_path, tmp_path / "vmlinux"))


def _age(path: Path) -> None:
    """Let a file's times be old, as far as that can be had: its inode's own is of now."""
    then = time.time() - 100
    os.utime(path, (then, then))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_file_just_written_is_hashed_each_time(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "kernel"
    for data in (b"first", b"other"):  # of one length, perhaps of one time
        path.write_bytes(data)
        assert KernelFile(path).sha256 == _digest(data)
    assert not cache.exists()


def test_what_is_settled_is_remembered_until_it_changes(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kernel"
    path.write_bytes(b"first")
    _age(path)
    later = time.time_ns() + 10**10
    monkeypatch.setattr(time, "time_ns", lambda: later)
    assert KernelFile(path).sha256 == _digest(b"first")
    (entry,) = cache.iterdir()
    monkeypatch.setattr(KernelFile, "read", lambda *_: pytest.fail("it is read"))
    assert KernelFile(path).sha256 == _digest(b"first")
    monkeypatch.undo()
    monkeypatch.setenv("KGDBPATCH_CACHE", str(cache.parent))
    path.write_bytes(b"other")
    _age(path)  # its own time is what it was, to the second
    assert KernelFile(path).sha256 == _digest(b"other")
    assert entry.exists()


def test_a_known_file_is_not_read(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later = time.time_ns() + 10**10
    monkeypatch.setattr(time, "time_ns", lambda: later)
    first = Image.load(kernel)
    monkeypatch.setattr(KernelFile, "read", lambda *_: pytest.fail("it is read"))
    known = Image.load(kernel)
    assert known.symbolize(known.lookup("main")) == "main"
    assert known.functions == first.functions


def test_a_file_changed_in_place_is_not_taken_for_what_it_was(kernel: Path) -> None:
    Image.load(kernel)
    image = Image.load(kernel)
    data = kernel.read_bytes()
    kernel.write_bytes(data[::-1])
    os.utime(kernel, ns=(0, 0))
    with pytest.raises(BadImage, match="was changed"):
        image.words(image.code_sections()[0])


def test_a_file_replaced_by_another_is_what_it_was(kernel: Path, tmp_path: Path) -> None:
    first = Image.load(kernel)
    image = Image.load(kernel)
    (tmp_path / "new").write_bytes(b"another")
    (tmp_path / "new").replace(kernel)
    assert image.sections == first.sections
