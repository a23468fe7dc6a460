"""What a kernel's name on the command line means, whatever else is called so; names that are no text."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from image.conftest import macho

from kgdbpatch.vm.machine import MachineDescription
from kgdbpatch.vm.qemu import Qemu

from .conftest import Cli

PROGRAM = [sys.executable, "-c", "from kgdbpatch.cli import main; main()"]


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="kgdbpatch-"))
    monkeypatch.setenv("KGDBPATCH_RUNTIME", str(directory))
    yield directory
    shutil.rmtree(directory)


@contextmanager
def running(name: str, kernel: Path) -> Iterator[Qemu]:
    """Run a QEMU that stands still; its record says that it runs ``kernel``."""
    metadata = {"profile": "darwin", "kernel": str(kernel), "sha256": ""}
    qemu = Qemu.start(name, MachineDescription.load("g3beige"), 64, lambda _: ["-S"], metadata=metadata)
    try:
        yield qemu
    finally:
        qemu.shutdown()


@pytest.mark.guest
@pytest.mark.parametrize("name", ["demo", "demo.1"])
def test_a_directory_does_not_hide_a_guest(
    name: str,
    guest_cli: Cli,
    runtime: Path,
    kernel_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with running(name, kernel_file):
        expected = guest_cli("functions", kernel_file, "--json")
        assert expected.code == 0
        assert guest_cli("functions", name, "--json") == expected
        (tmp_path / name).mkdir()
        assert guest_cli("functions", name, "--json") == expected
        said = guest_cli(
            "live", name, "f"
        ).err  # the guest is asked, which is in its firmware; not the folder
        assert "no RAM" in said or f"guest '{name}' hangs" in said


def test_a_directory_is_no_kernel(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for what, words in (
        ("folder", "a directory"),
        ("nothing.elf", "no such file"),
        ("nothing", "no such file"),
        ("n" * 300, "no such file"),
    ):
        path = tmp_path / what
        for command in (["functions", path], ["check", path, "f"], ["live", path, "f"], ["cfg", path, "f"]):
            result = cli(*command)
            assert (result.code, result.err.count("\n")) == (5, 1)
            assert f"{path}: {words}" in result.err


def test_a_name_that_is_neither_is_said_to_be_so(cli: Cli, tmp_path: Path) -> None:
    for command in ("functions", "check", "live", "cfg"):
        result = cli(command, "n" * 300, *["f"] * (command != "functions"))
        assert (result.code, result.err.count("\n")) == (2, 1)
        assert "is running" in result.err


@pytest.mark.guest
def test_a_kernel_whose_path_is_no_text(runtime: Path, tmp_path: Path) -> None:
    kernel = tmp_path / os.fsdecode(b"k\xfernel \xc3\xa9")
    kernel.write_bytes(macho().build())
    with running("odd", kernel):
        for options in ([], ["--json"]):
            for command in (["ps"], ["functions", "odd"], ["cfg", os.fsencode(kernel), "f"]):
                done = subprocess.run([*PROGRAM, *command, *options], check=False, capture_output=True)
                assert (done.returncode, done.stderr) == (0, b"")
                if command == ["ps"] and options:
                    assert os.fsencode(json.loads(done.stdout)["kernel"]) == os.fsencode(kernel)
                elif command == ["ps"]:
                    assert os.fsencode(kernel) in done.stdout


@pytest.mark.parametrize("packed", [False, True])
def test_a_kernel_of_another_kind_is_refused_at_once(
    cli: Cli, kernel_file: Path, tmp_path: Path, packed: bool
) -> None:
    program = tmp_path / "vmlinux"
    subprocess.run(
        ["powerpc-linux-gnu-gcc", "-nostdlib", "-static", "-x", "assembler", "-o", program, "-"],
        input=".globl _start\n_start: blr\n",
        text=True,
        check=True,
    )
    for profile, path, words in (
        ("linux", kernel_file, "this is Mach-O; a 'linux' guest runs kernels in ELF"),
        ("darwin", program, "this is ELF; a 'darwin' guest runs kernels in Mach-O"),
    ):
        (tmp_path / "kernel").write_bytes(gzip.compress(path.read_bytes()) if packed else path.read_bytes())
        result = cli("boot", profile, "--kernel", tmp_path / "kernel")
        assert (result.code, result.err.count("\n")) == (5, 1)
        assert words in result.err
    assert cli("ps").out.count("\n") == 1  # the heading: nothing runs
