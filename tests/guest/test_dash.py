"""The dashboard of a running guest: on a terminal, by its keys, and when the guest is not as it should be."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

import pexpect
import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, RichLog

from kgdbpatch.cli.dash_app import DashApp
from kgdbpatch.cli.main import run
from kgdbpatch.errors import DeadKernel
from kgdbpatch.kernel import Kernel
from kgdbpatch.kernel.attaching import attach, detach
from kgdbpatch.kernel.dashboard import Dashboard

from .by_hand import started
from .work import beat, empty

ESCAPES = re.compile(r"\x1b(\[[0-9;?=<>]*[A-Za-z]|[PX^_].*?\x1b\\|.)")
HOLDER = """
import socket, sys
held = socket.socket(socket.AF_UNIX)
held.connect(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""
TOKEN = re.compile(
    r"\x1b\[(\d+);(\d+)H|\x1b(?:\[[0-9;?=<>]*[ -/]*[@-~]|[PX^_\]].*?(?:\x1b\\|\x07)|.)|(.)", re.DOTALL
)
Scene = Callable[[DashApp, Pilot[None]], Awaitable[None]]


def test_a_look(kernel: Kernel) -> None:
    dashboard = Dashboard(kernel)
    first = dashboard.view()
    assert (first.state, first.name, first.pid) == ("running", kernel.name, kernel.pid)
    assert first.up is not None
    assert not first.patches
    assert first.switches is None
    patch = kernel.patch("strlen", count=True)
    beat(kernel)
    events = kernel.qemu.events.position()
    dashboard.view()
    beat(kernel)
    dashboard.examine()
    second = dashboard.view()
    assert kernel.qemu.events.position() == events  # it was never stopped
    (row,) = second.patches
    assert (row.id, row.place) == (patch.id, "_strlen")
    assert row.hits is not None
    assert row.rate is not None
    assert row.rate > 0
    assert second.switches is not None
    assert second.switches > 0
    assert second.used == kernel.arena_used > 0
    assert any("selfcheck" in line.message for line in second.log)
    empty(kernel)


def test_other_commands_do_not_import_textual() -> None:
    told = (
        "import sys; from kgdbpatch.cli.app import application as a; a(); sys.exit('textual' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", told], check=True)


def test_no_terminal(kernel: Kernel, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["dash", kernel.name]) == 2
    shown = capfd.readouterr()
    told = "kgdbpatch: error: dash needs a terminal; list, log and doctor tell the same\n"
    assert (shown.out, shown.err) == ("", told)


# ---- on a terminal -----------------------------------------------------------------------------------


@contextmanager
def terminal(name: str) -> Iterator[pexpect.spawn]:
    """Run the command, between two words about the terminal, which are to be the same."""
    script = 'stty -g; "$0" -m kgdbpatch dash "$1"; echo "ended with $?"; stty -g'
    environment = {**os.environ, "TERM": "xterm-256color"}
    words = ["-c", script, sys.executable, name]
    spawned = pexpect.spawn("sh", words, dimensions=(40, 120), timeout=60, encoding="utf-8", env=environment)
    try:
        yield spawned
    finally:
        spawned.close(force=True)


class Screen:
    """What stands on a terminal, of what textual sends to it."""

    def __init__(self) -> None:
        self._cells: dict[tuple[int, int], str] = {}
        self._row = self._column = 1

    def feed(self, text: str) -> None:
        for row, column, letter in TOKEN.findall(text):
            if row:
                self._row, self._column = int(row), int(column)
            elif letter == "\r":
                self._column = 1
            elif letter == "\n":
                self._row += 1
            elif letter:
                self._cells[self._row, self._column] = letter
                self._column += 1

    def find(self, pattern: str) -> re.Match[str] | None:
        lines = ("".join(self._cells.get((row, at), " ") for at in range(1, 121)) for row in range(1, 41))
        return re.search(pattern, "\n".join(lines))


def hits_on(screen: Screen, spawned: pexpect.spawn) -> int | None:
    """Read on, and return the hits of the patch at strlen that the screen shows."""
    with suppress(pexpect.TIMEOUT):
        screen.feed(spawned.read_nonblocking(1 << 16, 0.2))
    found = screen.find(r"_strlen +active +([\d,]+) +[\d,.]+ ")
    return int(found[1].replace(",", "")) if found else None


def ended(spawned: pexpect.spawn, before: str, code: int) -> str:
    """Let it come to its end; return what it said behind the picture."""
    spawned.expect(r"ended with (\d+)\r\n")
    assert int(spawned.match[1]) == code
    said = str(spawned.before)
    assert "\x1b[?1049l" in said  # back from the other screen
    spawned.expect(r"([0-9a-f:]+)\r\n")
    assert spawned.match[1] == before
    return ESCAPES.sub("", said.rpartition("\x1b[?1049l")[2])


def opened(spawned: pexpect.spawn) -> str:
    """Return how the terminal is before, once there is a picture."""
    spawned.expect(r"([0-9a-f:]+)\r\n")
    before = str(spawned.match[1])
    spawned.expect_exact("selfcheck")
    return before


@pytest.mark.long
def test_on_a_terminal(kernel: Kernel) -> None:
    with terminal(kernel.name) as spawned:
        before = opened(spawned)
        with kernel.patch("strlen", count=True):
            screen, counts, until = Screen(), set[int](), time.monotonic() + 60
            while len(counts) < 3:
                assert time.monotonic() < until, counts
                hits = hits_on(screen, spawned)
                counts |= set() if hits is None else {hits}
        spawned.send("q")
        assert ended(spawned, before, 0).strip() == ""
    kernel.assure_alive()
    empty(kernel)


@pytest.mark.long
@pytest.mark.parametrize("signal", ["TERM", "HUP", "INT"])
def test_signals_leave_the_terminal_as_it_was(kernel: Kernel, signal: str) -> None:
    with terminal(kernel.name) as spawned:
        before = opened(spawned)
        if signal == "INT":
            spawned.send("\x03")
        else:
            subprocess.run(["pkill", f"-{signal}", "-P", str(spawned.pid)], check=True)
        ended(spawned, before, 0)
    kernel.assure_alive()


@pytest.mark.long
def test_a_guest_that_ends_meanwhile_ends_it() -> None:
    with Kernel.boot("darwin", f"pytest-{os.getpid()}-dash") as kernel, terminal(kernel.name) as spawned:
        before = opened(spawned)
        kernel.shutdown()
        said = ended(spawned, before, 4)
    assert said.strip() == f"kgdbpatch: error: guest '{kernel.name}' is gone: it was shut down"


# ---- keys ----------------------------------------------------------------------------------------------


def play(kernel: Kernel, scene: Scene) -> DashApp:
    """Play a scene with the dashboard, on no terminal."""
    with Kernel.attach(kernel.name, dead=True) as seen:
        app = DashApp(Dashboard(seen), kernel.name, interval=0.1)

        async def played() -> None:
            async with app.run_test(size=(120, 40), notifications=True) as pilot:
                await shown(app, pilot, "heading", kernel.name)
                await scene(app, pilot)

        asyncio.run(played())
    return app


async def shown(app: DashApp, pilot: Pilot[None], part: str, wanted: str) -> None:
    """Wait until a part of the picture says something."""
    until = time.monotonic() + 30
    while not re.search(wanted, said(app, part)):
        assert time.monotonic() < until, said(app, part)
        await pilot.pause(0.05)


def said(app: DashApp, part: str) -> str:
    """Return what a part of the picture says."""
    screen = app.screen_stack[0]
    if part == "log":
        return "\n".join(line.text for line in screen.query_one("#log", RichLog).lines)
    if part == "patches":
        table = screen.query_one("#patches", DataTable)
        return "\n".join(" ".join(map(str, table.get_row_at(row))) for row in range(table.row_count))
    if part == "notes":
        return "\n".join(str(note.render()) for note in screen.query("Toast"))
    return str(screen.query_one(f"#{part}").render())


@pytest.mark.long
def test_pause_and_resume_are_asked_for(kernel: Kernel) -> None:
    async def scene(app: DashApp, pilot: Pilot[None]) -> None:
        await pilot.press("p", "n")
        await pilot.press("p", "escape")
        assert kernel.qemu.runs()
        await pilot.press("p", "y")
        await shown(app, pilot, "heading", "paused: it was told to pause")
        assert not kernel.qemu.runs()
        await pilot.press("p", "n")
        assert not kernel.qemu.runs()
        await pilot.press("p", "y")
        await shown(app, pilot, "heading", f"{kernel.name} running")
        await pilot.press("q")

    assert play(kernel, scene).ended_by is None
    beat(kernel)


@pytest.mark.long
def test_a_chosen_patch_is_taken_out(kernel: Kernel) -> None:
    ids = [kernel.patch(site, count=True).id for site in ("strlen", "run_netisr", "ether_input")]

    async def scene(app: DashApp, pilot: Pilot[None]) -> None:
        await shown(app, pilot, "patches", "_ether_input")
        await pilot.press("down", "r", "n")
        assert len(kernel.patches) == 3
        await pilot.press("r", "y")
        await shown(app, pilot, "notes", f"patch {ids[1]} at _run_netisr is out")
        await shown(app, pilot, "patches-title", "Patches: 2")

    play(kernel, scene)
    assert [patch.id for patch in kernel.patches] == [ids[0], ids[2]]
    empty(kernel)


@pytest.mark.long
def test_the_log_is_filtered(kernel: Kernel) -> None:
    async def scene(app: DashApp, pilot: Pilot[None]) -> None:
        await shown(app, pilot, "log", "statistics")
        await pilot.press("slash", *"selfch", "full_stop", *"ck", "enter")
        await shown(app, pilot, "log-title", "/selfch.ck/")
        await shown(app, pilot, "log", "selfcheck")
        assert "statistics" not in said(app, "log")
        await pilot.press("slash", "left_square_bracket", "enter")
        await shown(app, pilot, "notes", r"unterminated")
        await pilot.press("escape")
        await shown(app, pilot, "log", "statistics")
        await pilot.press("question_mark")
        await pilot.press("escape")
        assert len(app.screen_stack) == 1

    play(kernel, scene)


@pytest.mark.long
def test_one_that_somebody_debugs_is_told_and_left_alone(kernel: Kernel) -> None:
    command = [sys.executable, "-c", HOLDER, str(kernel.qemu.gdb_socket)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"

    async def scene(app: DashApp, pilot: Pilot[None]) -> None:
        await shown(app, pilot, "heading", f"held: by another debugger, process {holder.pid}")
        await pilot.press("p")
        await shown(app, pilot, "notes", "nothing is changed")
        assert len(app.screen_stack) == 1
        holder.communicate()
        await shown(app, pilot, "heading", f"{kernel.name} paused")  # as QEMU leaves it then
        await pilot.press("p", "y")
        await shown(app, pilot, "heading", f"{kernel.name} running")

    play(kernel, scene)
    beat(kernel)


@pytest.mark.long
@pytest.mark.panics
def test_a_dead_kernel_is_shown(kernel: Kernel) -> None:
    patch = kernel.patch("run_netisr", count=True)
    with pytest.raises(DeadKernel):
        kernel.call("strlen", 0xE000_0000, deadline=3)

    async def scene(app: DashApp, pilot: Pilot[None]) -> None:
        await shown(app, pilot, "heading", f"{kernel.name} panicked: ")
        await shown(app, pilot, "patches", f"^{patch.id} _run_netisr active")
        await shown(app, pilot, "log", "panic")
        await pilot.press("p")
        await shown(app, pilot, "notes", "has panicked")
        await pilot.press("q")

    assert play(kernel, scene).ended_by is None


@pytest.mark.long
@pytest.mark.panics
def test_a_kernel_that_hangs_is_shown(kernel: Kernel) -> None:
    kernel.patch("run_netisr", asm="1: b 1b")

    async def scene(app: DashApp, pilot: Pilot[None]) -> None:
        await shown(app, pilot, "heading", f"{kernel.name} hung: ")
        await pilot.press("q")

    assert play(kernel, scene).ended_by is None


@pytest.mark.long
@pytest.mark.parametrize("known", [True, False])
def test_a_guest_that_somebody_else_started(known: bool) -> None:
    """Without monitor and console it is shown as far as it is seen."""
    name = f"pytest-{os.getpid()}-others"
    with started("darwin") as guest:
        qmp, console = (guest.qmp, guest.console) if known else ("", "")
        attach(name, guest.gdb, guest.kernel, qmp=qmp, console=console).close()
        with Kernel.attach(name) as kernel:
            patch = kernel.patch("strlen", count=True)
            seen = Dashboard(kernel).view()
            assert seen.state == "running"
            assert [(row.id, row.place) for row in seen.patches] == [(patch.id, "_strlen")]
            assert bool(seen.log) is known
            assert bool(seen.no_log) is not known
            kernel.remove(patch.id)
        detach(name)
