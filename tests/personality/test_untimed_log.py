"""A Linux that prints no times (CONFIG_PRINTK_TIME is off in most defconfigs) has a log, too."""

from __future__ import annotations

from pathlib import Path

from kgdbpatch.kernel.syslog import Log
from kgdbpatch.personality.linux import Linux
from kgdbpatch.vm.console import Console

from .test_log_times import Alive

UNTIMED = "Linux version 6.12\nRun /init as init process\ninit: selfcheck: 7 ok, 0 bad\n\nhello\n"
TIMED = "[    0.000000] Linux version 6.12\n[    1.000000] init: ready\n# a shell's line\n"


def log_of(place: Path, text: str) -> tuple[Path, Log]:
    console = place / "console.log"
    console.write_text(text)
    return console, Log(Console(console, place / "console.sock", Alive()), Linux())  # type: ignore[arg-type]


def told(log: Log, since: int = 0) -> list[tuple[str, str, str]]:
    return [(line.time, line.source, line.message) for line in log.lines(since)]


def test_all_lines_are_the_log(tmp_path: Path) -> None:
    _, log = log_of(tmp_path, UNTIMED)
    assert told(log) == [
        ("", "kernel", "Linux version 6.12"),
        ("", "kernel", "Run /init as init process"),
        ("", "init", "selfcheck: 7 ok, 0 bad"),
        ("", "kernel", "hello"),
    ]


def test_where_the_kernel_prints_times_others_print_none(tmp_path: Path) -> None:
    """Also of what is printed later, and where the log is looked at from later on."""
    console, log = log_of(tmp_path, TIMED)
    assert [message for _, _, message in told(log)] == ["Linux version 6.12", "ready"]
    end = log.position()
    with console.open("a") as file:
        file.write("# another\n")
    assert told(log, end) == []
    again = log_of(tmp_path, console.read_text())[1]
    assert told(again, end) == []


def test_what_was_taken_for_untimed_is_looked_at_again(tmp_path: Path) -> None:
    """The firmware's lines come first."""
    console, log = log_of(tmp_path, ">> OpenBIOS 1.1\n")
    assert told(log) == [("", "kernel", ">> OpenBIOS 1.1")]
    with console.open("a") as file:
        file.write(TIMED)
    assert [message for _, _, message in told(log)] == ["Linux version 6.12", "ready"]


def test_a_panic_has_its_own_source(tmp_path: Path) -> None:
    _, log = log_of(tmp_path, UNTIMED + "Kernel panic - not syncing: dead\nCPU: 0\n")
    assert [source for _, source, _ in told(log)][-2:] == ["panic", "panic"]
