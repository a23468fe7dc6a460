"""How often each block of a function runs: as other counters say, drawn by its colour, and taken out."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from typing import Any
from xml.etree import ElementTree

import pytest

from kgdbpatch.cli.drawing import heat
from kgdbpatch.cli.main import run
from kgdbpatch.kernel import Kernel
from kgdbpatch.kernel.block_counter import BlockCounter

from .test_top import heeding
from .work import beat, empty, hits

LINUX = [pytest.mark.kernel("linux"), pytest.mark.linux, pytest.mark.long]
SVG = "{http://www.w3.org/2000/svg}"
drawn = pytest.mark.skipif(shutil.which("dot") is None, reason="graphviz is not installed")


@pytest.fixture(
    params=[
        pytest.param("tsleep", marks=[pytest.mark.kernel("darwin"), pytest.mark.long], id="darwin"),
        pytest.param("udp_sendmsg", marks=LINUX, id="linux"),
    ]
)
def busy(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def picture(text: str) -> dict[int, tuple[str | None, str]]:
    """Return of each node of a drawing by its number its colour and its text."""
    found = {}
    for group in ElementTree.fromstring(text).iter(f"{SVG}g"):
        if group.get("class") == "node":
            shape = next(group.iter(f"{SVG}polygon"))
            number = int((group.findtext(f"{SVG}title") or "")[1:])
            found[number] = (shape.get("fill"), "\n".join(one.text or "" for one in group.iter(f"{SVG}text")))
    return found


def counted(kernel: Kernel, function: str, capfd: pytest.CaptureFixture[str], *more: str) -> Any:
    capfd.readouterr()
    assert run(["cfg", kernel.name, function, "--hits", "--json", *more]) == 0
    return json.loads(capfd.readouterr().out)


@pytest.mark.kernel("darwin")
def test_the_command(kernel: Kernel, capfd: pytest.CaptureFixture[str]) -> None:
    rows = counted(kernel, "tsleep", capfd)
    assert set(rows) == {"nodes", "edges", "seconds"}
    first = rows["nodes"][0]
    assert first["hits"] > 0
    assert (first["not_counted"], first["patches"]) == (None, [])
    assert {"source", "target", "kind", "hits"} <= rows["edges"][0].keys()
    assert run(["cfg", kernel.name, "tsleep", "--hits", "--seconds", "0.2"]) == 0
    assert capfd.readouterr().out.startswith("_tsleep: ")
    assert kernel.patches == []
    assert run(["cfg", kernel.name, "tsleep", "--seconds", "1"]) == 2
    assert "--hits" in capfd.readouterr().err
    assert run(["pause", kernel.name]) == 0
    assert run(["cfg", kernel.name, "tsleep", "--hits"]) == 2
    assert f"'kgdbpatch resume {kernel.name}'" in capfd.readouterr().err
    assert run(["resume", kernel.name]) == 0
    empty(kernel)


def test_each_block_is_counted_as_another_counter_does(kernel: Kernel, busy: str) -> None:
    """Counters that are put in and read while the guest is paused see exactly the same time."""
    with BlockCounter(kernel, busy) as counter:
        kernel.pause()
        before = counter.counts()
        batch = kernel.patch_all(before.hits, count=True)
        kernel.resume()
        beat(kernel, 3)
        kernel.pause()
        after, others = counter.counts(), {patch.site: hits(patch) for patch in batch.patches}
        kernel.resume()
    assert set(others) == set(after.hits)
    assert others[counter.function.address] > 10
    assert {at: after.hits[at] - before.hits[at] for at in after.hits} == others
    assert set(after.hits) | set(after.not_counted) == set(counter.flow.graph.blocks)
    beat(kernel)
    empty(kernel)


@drawn
def test_the_picture(kernel: Kernel, busy: str, capfd: pytest.CaptureFixture[str]) -> None:
    patch = kernel.patch(busy, count=True)
    rows = counted(kernel, busy, capfd)
    assert rows["nodes"][0]["patches"] == [patch.id]
    assert run(["cfg", kernel.name, busy, "--hits", "--svg", "--all"]) == 0
    shown = picture(capfd.readouterr().out)
    assert set(shown) == {node["address"] for node in rows["nodes"]}
    assert f"<- patch {patch.id}" in shown[rows["nodes"][0]["address"]][1]
    with BlockCounter(kernel, busy) as counter:
        counter.wait(1)
        counts = counter.counts()
    assert len({heat(many, counts.most) for many in counts.hits.values()}) > 1
    empty(kernel)


@drawn
@pytest.mark.kernel("linux")
@pytest.mark.linux
@pytest.mark.long
def test_a_small_picture_of_many_blocks(kernel: Kernel, capfd: pytest.CaptureFixture[str]) -> None:
    most = 8
    capfd.readouterr()
    assert run(["cfg", kernel.name, "udp_sendmsg", "--hits", "--svg", "--most", str(most)]) == 0
    shown = picture(capfd.readouterr().out)
    blocks = {at: text for at, (_, text) in shown.items() if " live" in text}
    assert 1 < len(blocks) <= most + 1
    assert any("never run" in text for _, text in shown.values())
    for at, (fill, text) in shown.items():
        assert (", 0 hits" in text or "never run" in text) == (fill == heat(0, 1)), (at, text)
    assert run(["cfg", kernel.name, "udp_sendmsg", "--svg", "--most", str(most)]) == 0
    cold = [text for _, text in picture(capfd.readouterr().out).values()]
    assert sum(" live" in text for text in cold) == most
    assert any("far from the entry" in text for text in cold)
    empty(kernel)


def test_ended_early(kernel: Kernel, busy: str) -> None:
    command = [
        sys.executable,
        "-m",
        "kgdbpatch",
        "cfg",
        kernel.name,
        busy,
        "--hits",
        "--json",
        "--seconds",
        "600",
    ]
    for number in (signal.SIGTERM, signal.SIGINT):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=heeding) as client:
            until = time.monotonic() + 60
            while not kernel.patches:
                assert time.monotonic() < until
            beat(kernel, 3)
            client.send_signal(number)
            out, _ = client.communicate(timeout=60)
        assert client.returncode == 0
        assert json.loads(out)["nodes"][0]["hits"] > 0
        empty(kernel)  # a thread may have been inside
