"""``log --source`` and ``--since`` on a guest that goes on printing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from kgdbpatch.kernel import Kernel

PROGRAM = [sys.executable, "-c", "from kgdbpatch.cli import main; main()"]


def log(kernel: Kernel, *options: str, code: int = 0) -> list[dict[str, str]]:
    done = subprocess.run([*PROGRAM, "log", kernel.name, "--json", *options], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def order(guest: str, time: str) -> tuple[float, str]:
    """Return what puts the times that a guest prints in order: seconds on Linux, else the text."""
    return (float(time), "") if guest == "linux" else (0.0, time)


@pytest.mark.parametrize(
    "guest",
    [
        pytest.param("darwin", marks=pytest.mark.kernel("darwin")),
        pytest.param("linux", marks=[pytest.mark.kernel("linux"), pytest.mark.linux]),
    ],
)
def test_source_and_since(kernel: Kernel, guest: str) -> None:
    kernel.log.wait("selfcheck", since=kernel.log.position(), deadline=60)
    everything = log(kernel)
    sources = {line["source"] for line in everything}
    source = f"{everything[-1]['source'][:2]}*"
    wanted = {one for one in sources if one.startswith(source[:2])}
    chosen = log(kernel, "--source", source)
    assert {line["source"] for line in chosen} == wanted
    known = len([line for line in everything if line["source"] in wanted])
    assert chosen[:known] == [line for line in everything if line["source"] in wanted]
    assert log(kernel, "--source", "nobody") == []

    time = everything[-1]["time"]
    late = log(kernel, "--since", time)
    # snapshots put the clock back: the first line may be another
    later = [line for line in everything if order(guest, line["time"]) >= order(guest, time)]
    assert late[0] == later[0]
    assert everything[-1] in late
    assert len(late) < len(log(kernel))
    (answer,) = log(kernel, "--since", "half past five", code=2)
    assert "no time as this guest prints it" in str(answer["error"])

    followed = log(kernel, "-f", "-n", "0", "--source", source, "--until", "1", "--timeout", "60")
    assert [line["source"] in wanted for line in followed] == [True]
