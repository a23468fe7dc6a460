"""What was built is made once, by one builder, whole or not at all; the builds used longest ago go first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kgdbpatch.errors import BuildFailed
from kgdbpatch.store import builds, content_key, made_once


@pytest.fixture
def in_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KGDBPATCH_CACHE", str(tmp_path))
    return tmp_path


def test_the_key_follows_content_and_its_division(tmp_path: Path) -> None:
    source = tmp_path / "init.c"
    source.write_text("int main;")
    before = content_key(["gcc 12", source])
    assert content_key(["gcc 12", source]) == before
    source.write_text("int main ;")
    assert content_key(["gcc 12", source]) != before
    assert content_key(["ab", "c"]) != content_key(["a", "bc"])


def test_two_builders_at_once_make_it_once(in_cache: Path) -> None:
    made: list[Path] = []
    said: list[str] = []
    waiting = threading.Event()

    def make(result: Path, scratch: Path) -> None:
        made.append(scratch)
        assert waiting.wait(20), "the second builder never came"
        (result / "image").write_text("built")

    def hear(line: str) -> None:
        said.append(line)
        waiting.set()

    first = threading.Thread(target=made_once, args=("thing", make, hear))
    first.start()
    while not made:
        assert first.is_alive()
    assert made_once("thing", make, hear) == in_cache / "thing"
    first.join(20)
    assert len(made) == 1
    assert said == ["thing: waiting for another build of it"]
    assert (in_cache / "thing" / "image").read_text() == "built"
    assert not made[0].exists()


def _fail(result: Path, scratch: Path) -> None:
    (result / "half").write_text("x")
    raise BuildFailed("on purpose")


def _interrupt(result: Path, scratch: Path) -> None:
    (scratch / "object").write_text("x")
    raise KeyboardInterrupt


@pytest.mark.parametrize(("make", "error"), [(_fail, BuildFailed), (_interrupt, KeyboardInterrupt)])
def test_a_build_that_fails_leaves_no_trace(
    in_cache: Path, make: Callable[[Path, Path], None], error: type[BaseException]
) -> None:
    with pytest.raises(error):
        made_once("thing", make, print)
    assert [path.name for path in in_cache.iterdir()] == [".thing.lock"]


_KILLED = """
import os, signal, sys
from kgdbpatch.store import made_once
def make(result, scratch):
    (scratch / "object").write_text("x" * 1000)
    os.kill(os.getpid(), signal.SIGKILL)
made_once("thing", make, print)
"""


def test_what_a_killed_builder_left_is_cleared_by_the_next(in_cache: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", _KILLED], env=os.environ, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(in_cache.glob(".thing.building-*"))) == 2
    made_once("thing", lambda result, scratch: (result / "image").touch(), print)
    assert sorted(path.name for path in in_cache.iterdir()) == [".thing.lock", "thing"]


def test_no_room_anywhere_is_said(in_cache: Path) -> None:
    with pytest.raises(BuildFailed, match=r"needs 1073741824 MiB"):
        made_once("thing", _fail, print, scratch_bytes=1 << 50)


def test_the_builds_used_longest_ago_go_first(in_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(result: Path, scratch: Path) -> None:
        (result / "image").write_bytes(bytes(1000))

    names = [f"guest-{number:020x}" for number in range(4)]
    monkeypatch.setattr(builds, "LIMIT", 3500)
    (in_cache / "analysis").mkdir()  # not a build
    for age, name in enumerate(names[:3]):
        os.utime(made_once(name, make, print), (1000 + age, 1000 + age))
    made_once(names[0], make, print)  # now it is the second that nobody has used
    made_once(names[3], make, print)
    left = {path.name for path in in_cache.iterdir() if path.is_dir()}
    assert left == {"analysis", names[0], names[2], names[3]}
