"""Times of log lines are the personality's: their form, and whether one names a day."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from kgdbpatch.errors import Misuse
from kgdbpatch.kernel.syslog import Log
from kgdbpatch.personality.bare import Bare
from kgdbpatch.personality.darwin import Darwin
from kgdbpatch.vm.console import Console


class Clock(Bare):
    """A kernel that prints days since its start, hours and minutes; a time without a day is one of a day."""

    time_of_day = r"\d+h\d+"

    def log_seconds(self, time: str) -> float | None:
        found = re.fullmatch(r"(?:(\d+)d)?(\d+)h(\d+)", time)
        return found and int(found[1] or 0) * 86400.0 + int(found[2]) * 3600 + int(found[3]) * 60


@dataclass
class Alive:
    """A guest as a console asks for it."""

    name: str = "clock"

    def alive(self) -> bool:
        return True


LINES = "0d23h10 k: a\n1d00h05 k: b\n1d23h20 k: c\n"
DARWIN = "Nov 23 23:10:00 h k: a\nNov 24 00:05:00 h k: b\nNov 24 23:20:00 h k: c\n"


@pytest.mark.parametrize(
    ("time", "late"), [("23h15", "c"), ("00h00", "abc"), ("1d00h00", "bc"), ("0d23h10", "abc"), ("23h", None)]
)
def test_a_new_form_of_time_is_told_by_the_personality(tmp_path: Path, time: str, late: str | None) -> None:
    clock = Clock(log=r"(?P<time>\S+) (?P<source>\w+): (?P<message>.*)")
    assert chosen(tmp_path, clock, LINES, time) == late


@pytest.mark.parametrize(("time", "late"), [("23:15:00", "c"), ("Nov 24 00:00:00", "bc"), ("23:15", None)])
def test_darwins(tmp_path: Path, time: str, late: str | None) -> None:
    assert chosen(tmp_path, Darwin(), DARWIN, time) == late


def chosen(place: Path, system: Bare | Darwin, text: str, time: str) -> str | None:
    """Return the messages of the lines that are of ``time`` or later; None where that is no time."""
    console = place / "console.log"
    console.write_text(text)
    log = Log(Console(console, place / "console.sock", Alive()), system)  # type: ignore[arg-type]
    try:
        is_late = log.late(time)
    except Misuse:
        return None
    return "".join(line.message for line in log.lines() if is_late(line))
