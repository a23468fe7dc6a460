"""A lock tells its next holder whether the last one let go of it in order."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from kgdbpatch.errors import Refused, TargetBusy, TargetLost
from kgdbpatch.vm.lock import locked


def last_ended_in_order(path: Path, *, settles: bool = True) -> bool:
    with locked(path, "taken", 0, settles=settles) as orderly:
        return orderly


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


def die_with(path: Path) -> None:
    child = os.fork()
    if not child:
        with locked(path, "taken", 0):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


def test_who_ends_in_order_leaves_no_mark(path: Path) -> None:
    assert last_ended_in_order(path)
    assert last_ended_in_order(path)
    with pytest.raises(Refused), locked(path, "taken", 0):
        raise Refused("rule", "nothing was done")
    assert last_ended_in_order(path)


def test_who_dies_leaves_a_mark(path: Path) -> None:
    die_with(path)
    assert not last_ended_in_order(path)
    assert last_ended_in_order(path)


def test_who_loses_the_guest_leaves_a_mark(path: Path) -> None:
    for error in (TargetLost("GDB ended"), KeyboardInterrupt()):
        with pytest.raises(type(error)), locked(path, "taken", 0):
            raise error
        assert not last_ended_in_order(path)


def test_the_mark_stays_until_somebody_settles(path: Path) -> None:
    die_with(path)
    assert not last_ended_in_order(path, settles=False)
    die_with(path)
    with pytest.raises(Refused), locked(path, "taken", 0):
        raise Refused("rule", "nothing was done")
    assert not last_ended_in_order(path)
    assert last_ended_in_order(path)


def test_a_holder_is_named_whatever_the_last_ones_number(path: Path) -> None:
    path.write_text("1234567890\n")
    with locked(path, "taken", 0), pytest.raises(TargetBusy, match=f"taken by process {os.getpid()};"):
        last_ended_in_order(path)
