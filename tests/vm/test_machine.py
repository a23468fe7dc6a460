from __future__ import annotations

from pathlib import Path

import pytest

from kgdbpatch.errors import Misuse
from kgdbpatch.vm.machine import MachineDescription


def test_the_bundled_board() -> None:
    board = MachineDescription.load("g3beige")
    assert (board.name, board.machine, board.architecture) == ("g3beige", "g3beige", "powerpc:750")
    assert "-nodefaults" in board.args


def test_unknown_board_names_the_known_ones() -> None:
    with pytest.raises(Misuse, match=r"no machine description 'vax'; known: .*g3beige"):
        MachineDescription.load("vax")


def test_own_file(tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    path.write_text(
        'machine = "ppce500"\nbinary = "qemu-system-ppc"\ncpu = "e500v2"\narchitecture = "powerpc:e500"\n'
        'max_memory_mib = 512\nargs = []\nconsole = ["-serial", "chardev:{console}"]\n'
    )
    board = MachineDescription.load(path)
    assert (board.name, board.cpu, board.args) == ("board", "e500v2", ())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("machine = 1", "'max_memory_mib' must be a number"),
        ("max_memory_mib = 1\nmachine = 1", "'machine' must be a text"),
        ("machine", "Expected"),
    ],
)
def test_bad_file(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "board.toml"
    path.write_text(text)
    with pytest.raises(Misuse, match=reason):
        MachineDescription.load(path)
