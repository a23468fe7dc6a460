"""A kernel that a patch has killed is told by ps, by the next command, by log, and by pytest."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from guest.kills import LAST, STATES, WAYS, kill

from kgdbpatch.kernel import Kernel, catalog

from .conftest import Cli

pytestmark = [pytest.mark.long, pytest.mark.guest]
TESTS = Path(__file__).parents[1]
CHEAP = ("panic", "QEMU stopped", "reset")
DEADLINE = 120.0  # seconds

each_guest = pytest.mark.parametrize(
    "guest",
    [
        pytest.param("darwin", marks=pytest.mark.kernel("darwin")),
        pytest.param("linux", marks=[pytest.mark.kernel("linux"), pytest.mark.linux, pytest.mark.soak]),
    ],
)
each_way = pytest.mark.parametrize(
    "way", [way if way in CHEAP else pytest.param(way, marks=pytest.mark.soak) for way in WAYS]
)


@pytest.mark.panics
@each_guest
@each_way
def test_a_dead_kernel_is_told(guest_cli: Cli, kernel: Kernel, guest: str, way: str) -> None:
    kernel.log.wait("selfcheck", deadline=60)
    alive = kernel.log.lines()[0]
    kill(kernel, way)
    until = time.monotonic() + DEADLINE
    while (state := kernel.health.state) == "running" and time.monotonic() < until:
        pass
    assert state in STATES.get(way, LAST)
    listed = {row["name"]: row for row in guest_cli("ps", "--json").json_lines}
    assert listed[kernel.name]["state"] in STATES.get(way, LAST)
    assert listed[kernel.name]["reason"]

    commands = {"list": [], "verify": [], "remove": ["--all"], "check": ["run_netisr"]}
    refusing = commands if way != "QEMU stopped" else {"remove": ["--all"]}
    for command, rest in refusing.items():
        told = guest_cli(command, kernel.name, *rest)
        assert told.code == 4
        assert command == "list" or told.out == ""  # the table is in memory still
        (line,) = told.err.splitlines()
        assert kernel.name in line
        if state == "panicked" and way != "stack overrun":  # which overwrites what it runs over
            assert "panic" in line
    if way == "QEMU stopped":  # what only reads memory works
        assert guest_cli("list", kernel.name).code == 0
        assert guest_cli("verify", kernel.name, "--json").json["ok"]

    logged = guest_cli("log", kernel.name, "--json")
    assert logged.code == 0, logged.err
    assert alive.message in [line["message"] for line in logged.json_lines]
    if way == "panic":
        messages = [line["message"] for line in logged.json_lines]
        told_at = next(place for place, text in enumerate(messages) if "killed by a patch" in text)
        console = guest_cli("log", kernel.name, "--console").out.splitlines()
        assert any("killed by a patch" in line for line in console)
        if guest == "darwin":  # the line after it is no syslog line either
            assert messages[told_at + 1] == "We are hanging here..."


# a line from an interrupt every second or so, as a watchdog's
TELLS = """
extern int {print}(const char *, ...);
static unsigned count;
void f(void) {{ if (++count % 100 == 0) {print}("watchdog: still here\\n"); }}
"""
TICKS = {"darwin": ("hardclock", "kprintf"), "linux": ("scheduler_tick", "_printk")}


@pytest.mark.panics
@each_guest
def test_what_a_watchdog_prints_is_no_sign_of_life(
    guest_cli: Cli, kernel: Kernel, guest: str, tmp_path: Path
) -> None:
    site, print_ = TICKS[guest]
    source = tmp_path / "tells.c"
    source.write_text(TELLS.format(print=print_))
    kernel.patch(site, c=source, entry="f")
    kill(kernel, "endless loop")
    until = time.monotonic() + DEADLINE
    while kernel.health.state == "running" and time.monotonic() < until:
        pass
    for _ in range(3):
        kernel.qemu.console.wait("watchdog: still here", 10.0, kernel.qemu.console.position())
        told = guest_cli("verify", kernel.name)
        assert (told.code, told.out) == (4, "")
        assert "hangs" in told.err


INNER = """
import pytest
from guest.kills import kill

@pytest.mark.kernel({guest!r})
@pytest.mark.parametrize("way", {ways!r})
def test_that_asserts_nothing(kernel, way):
    kernel.log.wait("selfcheck", deadline=60)
    kill(kernel, way)

@pytest.mark.kernel({guest!r})
def test_that_is_innocent(kernel):
    assert kernel.verify().ok
    assert not kernel.patches

@pytest.mark.kernel({guest!r})
@pytest.mark.panics
def test_that_says_so(kernel):
    kill(kernel, "panic")
"""


def inner(tmp_path: Path, guest: str, ways: list[str]) -> str:
    """Run pytest on tests that assert nothing; return what it said."""
    (tmp_path / "test_inner.py").write_text(INNER.format(guest=guest, ways=ways))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-rA",
        str(tmp_path / "test_inner.py"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "COLUMNS": "200"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    return done.stdout


@pytest.mark.parametrize(
    ("guest", "ways"),
    [
        ("darwin", ["panic"]),
        pytest.param("darwin", [*WAYS], marks=pytest.mark.soak),
        pytest.param("linux", [*WAYS], marks=[pytest.mark.soak, pytest.mark.linux]),
    ],
)
def test_a_test_that_kills_its_guest_fails(tmp_path: Path, guest: str, ways: list[str]) -> None:
    said = inner(tmp_path, guest, ways)
    for way in ways:
        assert f"FAILED test_inner.py::test_that_asserts_nothing[{way}]" in said
    for innocent in ("innocent", "says_so"):
        assert f"PASSED test_inner.py::test_that_{innocent.replace('innocent', 'is_innocent')}" in said
    section = said[said.index("test_that_asserts_nothing[panic]") :]
    for part in ("console since the test began", "patches", "registers", "versions"):
        assert re.search(rf"- guest pytest-\S+: {part} -", section)
    assert re.search(r"\d+ active at \S+", section)
    assert re.search(r"cpu 0: pc 0x[0-9a-f]{8} \(\S+", section)
    assert re.search(r"sha256 [0-9a-f]{64}", section)
    assert "QEMU emulator version" in section
    assert "killed by a patch" in section
    assert not [guest for guest in catalog.known() if guest.name.endswith("-main-inner")]
