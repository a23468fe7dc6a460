"""doctor tells what is installed of what kgdbpatch needs, and what to type for the rest."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from .conftest import Cli


def program(place: Path, name: str, text: str) -> None:
    (place / name).write_text(f"#!/bin/sh\n{text}\n")
    (place / name).chmod(stat.S_IRWXU)


def test_what_is_here_is_found(cli: Cli) -> None:
    found = cli("doctor", "--json")
    assert found.code == 0, found.err
    rows = {row["name"]: row for row in found.json_lines}
    assert rows["qemu-system-ppc"]["ok"]
    assert "QEMU emulator version" in rows["qemu-system-ppc"]["version"]
    assert Path(rows["gdb-multiarch"]["path"]).is_file()
    assert "GNU gdb" in cli("doctor").out


def test_what_is_missing_is_named_with_the_command_to_type(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program(tmp_path, "qemu-system-ppc", "echo QEMU of ours")
    program(tmp_path, "qemu-img", "exit 3")
    program(
        tmp_path, "gdb-multiarch", "case $1 in --version) echo GNU gdb;; *) echo no python >&2; exit 1;; esac"
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    found = cli("doctor")
    assert found.code == 4
    assert "QEMU of ours" in found.out
    (line,) = (line for line in found.out.splitlines() if "apt-get install" in line)
    assert "gcc-powerpc-linux-gnu" in line
    assert "qemu-utils" in line
    assert "qemu-system-ppc" not in line.split("apt-get")[1]
    (told,) = found.err.splitlines()
    assert "qemu-img ends with 3" in told
    assert "gdb-multiarch ends with 1" in told
    rows = {row["name"]: row for row in cli("doctor", "--json").json_lines if "name" in row}
    assert [name for name, row in rows.items() if row["required"] and not row["ok"]] == [
        "qemu-img",
        "gdb-multiarch",
    ]
    assert rows["gdb-multiarch"]["install"] == "apt-get install gdb-multiarch"
