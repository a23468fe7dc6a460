"""Open Firmware's prompt is led through dialogues: what is expected, sent, left over, and who may type."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kgdbpatch.errors import Misuse, TargetBusy, TargetLost, TargetTimeout
from kgdbpatch.vm.dialogue import Dialogue
from kgdbpatch.vm.machine import MachineDescription
from kgdbpatch.vm.qemu import Qemu

pytestmark = pytest.mark.guest

# Types half a line, tells so, and keeps the console until its input ends.
HOLDER = """
import sys
from kgdbpatch.vm.dialogue import Dialogue
from kgdbpatch.vm.qemu import Qemu
with Dialogue(Qemu.attach(sys.argv[1]).console) as held:
    print("held", flush=True)
    sys.stdin.read()
"""

STRANGER = """
import socket, sys
with socket.socket(socket.AF_UNIX) as line:
    line.connect(sys.argv[1])
    line.sendall(b"\\r")
    line.recv(1)  # it is its turn: connections wait for theirs where nobody sees them
    print("connected", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def firmware(runtime: Path) -> Iterator[Qemu]:
    board = MachineDescription.load("g3beige")
    with Qemu.start("dialogue", board, 64, ["-prom-env", "auto-boot?=false", "-nographic"]) as qemu:
        qemu.console.wait("^0 > $", 20, partial=True)
        yield qemu


@pytest.fixture
def dialogue(firmware: Qemu) -> Dialogue:
    return Dialogue(firmware.console)


@pytest.fixture
def holder(firmware: Qemu) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLDER, firmware.name]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_question_and_answer(dialogue: Dialogue) -> None:
    dialogue.expect("^0 > $")  # the prompt that stands there already
    for number in (7, 1000):
        dialogue.sendline(f"decimal {number} 3 * .")
        assert dialogue.expect(rf"{number} 3 \* \. (\d+) ")[1] == str(number * 3)
        dialogue.expect("^0 > $")
        assert dialogue.before.strip() == "ok"


def test_each_text_matches_once_and_a_timeout_takes_none(dialogue: Dialogue) -> None:
    dialogue.sendline('." one" cr ." two" cr')
    dialogue.expect("cr one$")
    with pytest.raises(TargetTimeout, match=r"no line like /one\$/") as caught:
        dialogue.expect("one$", 0.2)
    assert "within 0.2 s" in str(caught.value)
    assert dialogue.expect(re.compile("^TWO\n", re.I | re.M))[0] == "two\n"
    with pytest.raises(Misuse, match="unterminated"):
        dialogue.expect("[")


def test_the_transcript_needs_nothing_expected(dialogue: Dialogue) -> None:
    dialogue.sendline('." first" cr')
    dialogue.expect("cr first\n")
    dialogue.expect("^0 > $")
    dialogue.sendline('." second" cr')
    dialogue.expect("cr second\n")
    before, *rest = dialogue.transcript
    assert before == ("", "0 > ")
    assert [exchange.sent for exchange in rest] == ['." first" cr\r', '." second" cr\r']
    assert [exchange.printed.splitlines()[0].split()[-1] for exchange in rest] == ["first", "second"]
    assert rest[0].printed.endswith("0 > ")
    dialogue.begin()
    assert len(dialogue.transcript) == 1


def test_two_take_nothing_from_each_other(firmware: Qemu, dialogue: Dialogue) -> None:
    other = Dialogue(firmware.console)
    dialogue.sendline('." for-both" cr')
    for one in (other, dialogue):
        one.expect("cr for-both\n")


def test_who_has_it_for_himself_is_named(dialogue: Dialogue, holder: subprocess.Popen[str]) -> None:
    busy = rf"the console of guest 'dialogue' is in use by process {holder.pid}; waited 0\.2 s"
    with pytest.raises(TargetBusy, match=busy):
        dialogue.send("nothing", 0.2)
    holder.communicate()
    with dialogue:
        dialogue.sendline('." free" cr')
    dialogue.expect("cr free\n")


def test_a_killed_one_lets_go(dialogue: Dialogue, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    dialogue.sendline('." after" cr')
    dialogue.expect("cr after\n")


def test_a_stranger_at_the_socket_is_named(firmware: Qemu, dialogue: Dialogue) -> None:
    command = [sys.executable, "-c", STRANGER, str(firmware.directory / "console.sock")]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()
    try:
        with pytest.raises(TargetBusy, match=rf"in use by another program, process {other.pid} \(.*python"):
            dialogue.send("nothing", 0.3)
    finally:
        other.communicate()
    dialogue.sendline('." gone" cr')
    dialogue.expect("cr gone\n")


def test_a_long_text_is_not_stuck_in_its_own_echo(dialogue: Dialogue) -> None:
    # the echo of it is more than QEMU holds for a client that does not read meanwhile
    lines = "".join(f'." {"x" * 60}" {number} . cr\r' for number in range(8))
    dialogue.send(lines, 60)
    dialogue.expect(r"x{60} *7 *\n")


def test_one_that_stands_still_does_not_hold_up_the_guest(
    firmware: Qemu, holder: subprocess.Popen[str]
) -> None:
    since = firmware.console.position()
    code = (
        "import sys; from kgdbpatch.vm.qemu import Qemu; from kgdbpatch.vm.dialogue import Dialogue\n"
        "d = Dialogue(Qemu.attach(sys.argv[1]).console); print('up', flush=True); d.expect('^never$', 60)"
    )
    holder.communicate()
    reader = subprocess.Popen([sys.executable, "-c", code, firmware.name], stdout=subprocess.PIPE)
    assert reader.stdout is not None
    reader.stdout.readline()
    try:
        reader.send_signal(signal.SIGSTOP)
        firmware.console.send(': many 40 0 do ." more than QEMU keeps" cr loop ." enough" cr ; many\r')
        firmware.console.wait("^enough", 10, since)
        assert firmware.hmp("info status", deadline=5) == "VM status: running"
    finally:
        reader.kill()
        reader.communicate()


def test_the_guests_end_ends_it(runtime: Path) -> None:
    board = MachineDescription.load("g3beige")
    with Qemu.start("short", board, 64, ["-prom-env", "auto-boot?=false", "-nographic"]) as qemu:
        dialogue = Dialogue(qemu.console)
        qemu.process.kill()
        with pytest.raises(TargetLost, match="killed by SIGKILL"):
            dialogue.expect("^never$", 30)
