"""A misspelt guest is answered with the names that may have been meant."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kgdbpatch.vm.machine import MachineDescription
from kgdbpatch.vm.qemu import Qemu

from .conftest import Cli

pytestmark = pytest.mark.guest


@pytest.fixture
def guests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel_file: Path) -> Iterator[None]:
    """Run one guest that stands still, ``server``, and leave another that has ended, ``archive``."""
    monkeypatch.setenv("KGDBPATCH_RUNTIME", str(tmp_path / "run"))
    metadata = {"profile": "darwin", "kernel": str(kernel_file), "sha256": ""}
    machine = MachineDescription.load("g3beige")
    server = Qemu.start("server", machine, 64, lambda _: ["-S"], metadata=metadata)
    archive = Qemu.start("archive", machine, 64, lambda _: ["-S"], metadata=metadata)
    archive.process.kill()
    archive.process.wait(10)
    yield
    server.shutdown()
    archive.shutdown()


@pytest.mark.usefixtures("guests")
def test_near_names(guest_cli: Cli) -> None:
    for command in (
        ["list", "sever"],
        ["log", "sever"],
        ["ps", "sever"],
        ["verify", "Server"],
        ["cfg", "serverr", "f"],
    ):
        result = guest_cli(*command)
        assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
        assert "did you mean server?" in result.err
    for command in (["log", "archiv"], ["ps", "archiv"]):
        assert "did you mean archive?" in guest_cli(*command).err
    assert "did you mean" not in guest_cli("list", "archiv").err  # that of a dead one would not do
    assert "did you mean" not in guest_cli("list", "quite-another").err


@pytest.mark.usefixtures("guests")
def test_ps_of_one_guest(guest_cli: Cli) -> None:
    (server,) = guest_cli("ps", "server", "--json").json_lines
    (archive,) = guest_cli("ps", "archive", "--json").json_lines
    assert server["name"] == "server"
    assert (archive["name"], archive["state"]) == ("archive", "ended")
    assert len(guest_cli("ps", "--json").json_lines) == 2
