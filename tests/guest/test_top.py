"""What a kernel is busy with: as many calls as counters say; however it is ended, nothing stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pexpect
import pytest

from kgdbpatch.cli.main import run
from kgdbpatch.errors import Misuse
from kgdbpatch.kernel import Kernel
from kgdbpatch.kernel.top import Top

from .work import beat, empty, hits

BUSY = {"darwin": "strlen", "linux": "memset"}


@pytest.fixture(
    params=[
        pytest.param("darwin", marks=pytest.mark.kernel("darwin")),
        pytest.param("linux", marks=[pytest.mark.kernel("linux"), pytest.mark.linux, pytest.mark.long]),
    ]
)
def guest(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_all_functions_are_counted(kernel: Kernel, guest: str) -> None:
    """What a counter before and one behind it have counted is about what is told."""
    busy = kernel[BUSY[guest]].address
    before = kernel.patch(busy, count=True)
    with Top(kernel) as top:
        assert top.counted > 0.9 * len(top.functions)
        after = kernel.patch(busy, count=True)
        kernel.pause()
        top.rows()
        least, most = hits(after), hits(before)
        kernel.resume()
        beat(kernel)
        kernel.pause()
        rows = top.rows()
        least, most = hits(after) - least, hits(before) - most
        kernel.resume()
    row = next(row for row in rows if row.address == busy)
    assert abs(row.calls - least) <= 2  # a call may be between two counters where it was paused
    assert abs(row.calls - most) <= 2
    assert rows == sorted(rows, key=lambda row: -row.calls)
    assert len(rows) > 50
    assert row.calls_per_second == pytest.approx(row.calls / row.seconds, rel=0.01)
    beat(kernel)
    empty(kernel)


@pytest.mark.kernel("darwin")
def test_time_and_blocks(kernel: Kernel) -> None:
    with Top(kernel, "str*", sort="time") as top:
        beat(kernel)
        rows = top.rows()
    assert rows[0].time is not None
    assert rows[0].share is not None
    assert 0 < rows[0].share < 1
    with Top(kernel, "strlen", sort="blocks") as top:
        beat(kernel)
        (row,) = top.rows()
    assert row.blocks is not None
    assert row.blocks >= 2 * row.calls
    with pytest.raises(Misuse, match="nothing to sort by"):
        Top(kernel, sort="age")
    empty(kernel)


@pytest.mark.kernel("darwin")
def test_the_command(kernel: Kernel, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["top", kernel.name, "str*", "--once"]) == 0
    shown = capfd.readouterr()
    assert "CALLS/S" in shown.out
    assert "counting" in shown.err
    assert run(["top", kernel.name, "str*", "--once", "--json", "--rows", "1"]) == 0
    row = json.loads(capfd.readouterr().out)
    assert row["calls"] > 0
    assert row["symbol"] == row["function"]
    assert run(["top", kernel.name, "no_such*", "--once"]) == 2
    empty(kernel)


@pytest.mark.long
@pytest.mark.kernel("darwin")
def test_on_a_terminal_the_table_stays_where_it_is(kernel: Kernel) -> None:
    words = ["-m", "kgdbpatch", "top", kernel.name, "str*"]
    with pexpect.spawn(
        sys.executable, words, dimensions=(12, 60), timeout=120, preexec_fn=heeding
    ) as terminal:
        terminal.expect(r"functions, [\d,]+ calls a second")
        terminal.expect(r"\x1b\[\d*A")  # it goes up, and draws again
        terminal.sendintr()
        terminal.expect(pexpect.EOF)
    assert terminal.exitstatus == 0
    beat(kernel)
    empty(kernel)


COMMANDS = [
    ["callers", "strlen"],
    ["latency", "str*"],
    ["top"],
    ["graph", "ether_input", "--depth", "1"],
]


def started(kernel: Kernel, words: list[str]) -> subprocess.Popen[bytes]:
    """Start a command, and wait until it has put something in."""
    command = [sys.executable, "-m", "kgdbpatch", words[0], kernel.name, *words[1:]]
    began = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=heeding, env={**os.environ}
    )
    until = time.monotonic() + 120
    while not any(row.hits != 0 for row in kernel.patch_table()):  # None: it does not count
        assert began.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    return began


def heeding() -> None:
    """Heed Ctrl-C, which jobs in the background ignore."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
@pytest.mark.kernel("darwin")
def test_one_that_is_ended_is_taken_out(kernel: Kernel, words: list[str], number: signal.Signals) -> None:
    with started(kernel, words) as command:
        command.send_signal(number)
        assert command.wait(120) in (0, 130)
    beat(kernel)
    empty(kernel)


@pytest.mark.kernel("darwin")
def test_one_that_is_killed_can_be_taken_out(kernel: Kernel, capfd: pytest.CaptureFixture[str]) -> None:
    with started(kernel, ["latency", "str*"]) as command:
        command.kill()
    capfd.readouterr()
    assert run(["list", kernel.name]) == 0
    assert "_strlen" in capfd.readouterr().out
    assert kernel.verify().ok
    assert run(["remove", kernel.name, "--all"]) == 0
    beat(kernel)
    empty(kernel)


@pytest.mark.long
@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_a_guest_that_ends_meanwhile_is_told(words: list[str]) -> None:
    with Kernel.boot("darwin", f"pytest-{os.getpid()}-ends-{words[0]}") as kernel:
        with started(kernel, words) as command:
            os.kill(kernel.pid, signal.SIGKILL)
            _, told = command.communicate(timeout=120)
        assert command.returncode == 4, told
        assert b"Traceback" not in told
        assert kernel.name.encode() in told
