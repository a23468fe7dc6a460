"""What goes wrong around a guest is said in one line with the right exit code, the guest as it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kgdbpatch.kernel import Kernel

from .conftest import Cli, Result
from .test_guest import PROGRAM

pytestmark = pytest.mark.guest

# Dies by its own hand when everything is written and recorded, just before the splice.
CUT_OFF = """
import os, signal, sys
from kgdbpatch.component.layout import Op, State
from kgdbpatch.component.stop import Stop
from kgdbpatch.component.protocol import Command
from kgdbpatch.kernel import Kernel

obey = Stop.call

def call(stop, commands):
    at = next((index for index, command in enumerate(commands) if command.op is Op.APPLY), None)
    if at is None:
        return obey(stop, commands)
    obey(stop, [*commands[:at], Command(Op.MARK, commands[at].a, 1, State.PENDING)])
    os.kill(os.getpid(), signal.SIGKILL)

Stop.call = call
Kernel.attach(sys.argv[1]).patch(sys.argv[2], asm="nop")
"""

HOLDER = """
import sys
from kgdbpatch.vm.qemu import Qemu
with Qemu.attach(sys.argv[1]).exclusive(10):
    print("held", flush=True)
    sys.stdin.read()
"""


def failed(result: Result, code: int, message: str) -> None:
    assert result.code == code, result.err
    assert result.err.startswith("kgdbpatch: error: ")
    assert message in result.err
    assert "Traceback" not in result.err
    assert result.out == ""


def untouched(kernel: Kernel) -> None:
    verified = kernel.verify()
    assert (verified.ok, verified.patched) == (True, 0)
    assert kernel.patches == []


def test_a_site_of_an_unfinished_patch(guest_cli: Cli, kernel: Kernel) -> None:
    client = subprocess.run([sys.executable, "-c", CUT_OFF, kernel.name, "run_netisr"], check=False)
    assert client.returncode == -signal.SIGKILL
    listed = guest_cli("list", kernel.name, "--json").json
    assert listed["state"] == "unfinished"
    assert guest_cli("verify", kernel.name, "--json").json == {
        "ok": True,
        "patched": 0,
        "mismatched": [],
        "mismatched_symbols": [],
        "kernel_changes": [],
        "unloaded": [],
    }
    again = guest_cli("apply", kernel.name, "run_netisr", "--call", "printf")
    failed(again, 3, f"belongs to patch {listed['id']}, whose apply was cut off; remove {listed['id']} first")
    assert guest_cli("remove", kernel.name, listed["id"]).code == 0
    untouched(kernel)
    assert guest_cli("apply", kernel.name, "run_netisr", "--call", "splx", "--json").code == 0


def test_an_image_of_the_other_byte_order(guest_cli: Cli, kernel: Kernel, tmp_path: Path) -> None:
    data = kernel.image.path.read_bytes()
    swapped = tmp_path / "swapped"
    swapped.write_bytes(np.frombuffer(data[:28], ">u4").astype("<u4").tobytes() + data[28:])
    failed(guest_cli("verify", kernel.name, "--image", swapped), 5, "little-endian")
    failed(guest_cli("functions", swapped), 5, "little-endian")
    untouched(kernel)


@pytest.mark.parametrize("command", ["apply", "remove"])
def test_a_second_client_waits_its_turn(guest_cli: Cli, kernel: Kernel, command: str) -> None:
    rest = {"apply": ["run_netisr", "--call", "splx"], "remove": ["--all"]}[command]
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, kernel.name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        result = guest_cli(command, kernel.name, *rest, "--wait", "0.2")
        failed(result, 4, f"guest '{kernel.name}' is in use by process {holder.pid}")
    finally:
        holder.communicate()
    untouched(kernel)
    assert guest_cli(command, kernel.name, *rest).code == 0  # the first has gone


class TestQemuKilled:
    """QEMU dies under its clients."""

    @pytest.fixture
    def lost(self, guest_cli: Cli) -> Iterator[Kernel]:
        with Kernel.boot("darwin", f"lost-{os.getpid()}") as kernel:
            yield kernel

    def test_before_a_command(self, guest_cli: Cli, lost: Kernel) -> None:
        os.kill(lost.pid, signal.SIGKILL)
        lost.qemu.process.wait(5)
        failed(guest_cli("apply", lost.name, "run_netisr", "--call", "splx"), 4, "killed by SIGKILL")

    def test_while_it_is_followed(self, lost: Kernel) -> None:
        follower = subprocess.Popen(
            [*PROGRAM, "log", lost.name, "-f"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert follower.stdout is not None
        follower.stdout.readline()
        os.kill(lost.pid, signal.SIGKILL)
        _, said = follower.communicate(timeout=30)
        assert follower.returncode == 4
        assert said.startswith(f"kgdbpatch: error: guest '{lost.name}' is gone: QEMU ended (")

    def test_under_a_client_at_work(self, lost: Kernel) -> None:
        work = (
            "import sys\nfrom kgdbpatch.kernel import Kernel\nk = Kernel.attach(sys.argv[1])\n"
            "from kgdbpatch.errors import TargetLost\n"
            "try:\n  while True:\n    k.patch('run_netisr', asm='nop').remove(); print('round', flush=True)\n"
            "except TargetLost as error:\n  print(error)\n  sys.exit(error.exit_code)\n"
        )
        client = subprocess.Popen([sys.executable, "-c", work, lost.name], stdout=subprocess.PIPE, text=True)
        assert client.stdout is not None
        client.stdout.readline()
        os.kill(lost.pid, signal.SIGKILL)
        said, _ = client.communicate(timeout=60)
        assert client.returncode == 4
        assert "is gone: QEMU ended (" in said
