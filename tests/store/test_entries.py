"""The cache on disk: entries are whole or absent, nothing half-written stays, the least used go first."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kgdbpatch import store
from kgdbpatch.store import entries


@pytest.fixture(autouse=True)
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KGDBPATCH_CACHE", str(tmp_path))
    return tmp_path / "room"


def test_what_is_kept_comes_back() -> None:
    assert store.load("room", "key") is None
    store.save("room", "key", b"contents")
    assert store.load("room", "key") == b"contents"
    store.save("room", "key", b"other")
    assert store.load("room", "key") == b"other"


@pytest.mark.parametrize("change", [lambda raw: raw[:-1], lambda raw: raw + b"x", lambda raw: b""])
def test_a_damaged_entry_is_absent(room: Path, change: object) -> None:
    assert callable(change)
    store.save("room", "key", b"contents")
    (room / "key").write_bytes(change((room / "key").read_bytes()))
    assert store.load("room", "key") is None


def test_a_full_disk_leaves_nothing(room: Path) -> None:
    store.save("room", "small", b"kept")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        store.save("room", "large", bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert [path.name for path in room.iterdir()] == ["small"]


def test_an_interrupted_writer_leaves_nothing(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.save("room", "key", b"contents")
    assert list(room.iterdir()) == []


def test_what_a_killed_writer_left_is_removed_in_time(room: Path) -> None:
    code = (
        "import os, signal\nfrom pathlib import Path\nfrom kgdbpatch import store\n"
        "Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "store.save('room', 'key', b'contents')"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    (left,) = room.iterdir()
    store.save("room", "another", b"1")
    assert left.exists()  # who knows whether it is still being written
    os.utime(left, (0, 0))
    store.save("room", "third", b"2")
    assert sorted(path.name for path in room.iterdir()) == ["another", "third"]


def test_the_entries_used_longest_ago_go_first(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for age, key in enumerate("abcd"):
        store.save("room", key, bytes(1000))
        os.utime(room / key, (1000 + age, 1000 + age))
    assert store.load("room", "a") is not None  # now it is b that nobody has used
    monkeypatch.setattr(entries, "LIMIT", 3500)
    store.save("room", "e", bytes(1000))
    assert sorted(path.name for path in room.iterdir()) == ["a", "d", "e"]
    store.save("room", "f", bytes(9000))
    assert [path.name for path in room.iterdir()] == ["f"]


def test_no_home_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGDBPATCH_CACHE", "/dev/null/nowhere")
    store.save("room", "key", b"contents")
    assert store.load("room", "key") is None
