"""Guests booted by flags alone: what the user has, on boards that are described, without a recipe."""

from __future__ import annotations

import gzip
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.conftest import Cli, guest_cli
from guests.kernels import bare

from kgdbpatch.errors import Refused
from kgdbpatch.guests import Recipe
from kgdbpatch.kernel import Kernel
from kgdbpatch.vm.qemu import Qemu

__all__ = ["guest_cli"]  # the fixture

CONSOLE = "console=ttyPZ0 powersave=off"
NAME = f"flags-{os.getpid()}"
# of QEMU's board bamboo: the first serial port (hw/ppc/ppc440_bamboo.c), a 16550
HELLO = """
    .globl _start
_start:
    lis 4,0xef60
    ori 4,4,0x0300
    lis 5,text@ha
    addi 5,5,text@l
1:  lbz 3,0(5)
    cmpwi 3,0
    beq 2f
    stb 3,0(4)
    addi 5,5,1
    b 1b
2:  mfmsr 3
    ori 3,3,0x8000
    mtmsr 3
3:  b 3b
    .data
text: .asciz "hello, bamboo\\n"
"""


@pytest.fixture(scope="module")
def linux() -> Recipe:
    recipe = Recipe.find("linux")
    recipe.build(print)
    return recipe


def files(recipe: Recipe) -> list[object]:
    return ["--kernel", recipe.image_path(), "--initrd", recipe.initrd()]


@pytest.fixture
def ended(guest_cli: Cli) -> Iterator[None]:
    yield
    guest_cli("shutdown", NAME)


@pytest.mark.linux
@pytest.mark.usefixtures("ended")
def test_a_linux_with_a_disk_and_arguments_for_qemu(guest_cli: Cli, linux: Recipe, tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(b"A" * (1 << 20))
    words = ["--append", f"{CONSOLE} mem=256M", "--drive", disk, "--cpu", "7400", "--json"]
    more = ["--", "-device", "virtio-rng-pci,id=added"]
    booted = guest_cli("boot", NAME, "--machine", "g3beige", *files(linux), *words, *more)
    assert booted.code == 0, booted.err
    assert set(booted.json) == {"name", "pid", "state", "kernel", "boot_seconds"}
    qemu = Qemu.attach(NAME)
    assert "virtio-rng-pci" in qemu.hmp("info qtree")
    (own,) = [row for row in qemu.qmp("query-block") if row["device"] == "ide0-hd0"]  # type: ignore[attr-defined]
    assert own["inserted"]["backing_file"] == str(disk)
    qemu.hmp('qemu-io ide0-hd0 "write -P 0x42 0 512"')
    assert "verification failed" not in qemu.hmp('qemu-io ide0-hd0 "read -P 0x42 0 512"')
    assert disk.read_bytes() == b"A" * (1 << 20)
    made = guest_cli("apply", NAME, "do_sys_openat2", "--count", "--json")
    assert made.code == 0, made.err
    assert guest_cli("remove", NAME, "--all").code == 0
    assert guest_cli("verify", NAME, "--json").json["ok"]
    shown = guest_cli("recipe", "show", NAME)
    assert f'drives = ["{disk}"]' in shown.out
    assert guest_cli("shutdown", NAME).code == 0
    assert not qemu.directory.exists()
    assert disk.read_bytes() == b"A" * (1 << 20)


@pytest.mark.linux
@pytest.mark.usefixtures("ended")
def test_a_packed_linux_that_hides_no_memory(guest_cli: Cli, linux: Recipe, tmp_path: Path) -> None:
    path = linux.image_path()
    assert path is not None
    subprocess.run(["powerpc-linux-gnu-objcopy", "-O", "binary", path, tmp_path / "Image"], check=True)
    (tmp_path / "Image.gz").write_bytes(gzip.compress((tmp_path / "Image").read_bytes(), 1))
    words = ["--kernel", tmp_path / "Image.gz", "--initrd", linux.initrd(), "--append", CONSOLE]
    booted = guest_cli("boot", NAME, "--machine", "mac99", *words, "--json")
    assert booted.code == 0, booted.err
    assert "'mem=256M' in --append would leave some" in booted.json["unpatchable"]
    for command in (["apply", NAME, "do_sys_openat2", "--count"], ["list", NAME]):
        refused = guest_cli(*command, "--json")
        assert (refused.code, refused.json["rule"]) == (3, "mapping")
        assert "runs without patches" in refused.err
        assert refused.err.count("\n") == 1
    with Kernel.attach(NAME) as kernel:
        assert kernel.unpatchable is not None
        assert kernel.health.state == "running"
        with pytest.raises(Refused, match="runs without patches"):
            kernel.patch("do_sys_openat2", count=True)
        assert kernel.words(kernel.image.lookup("do_sys_openat2"), 1)[0]
    assert guest_cli("log", NAME, "-n", 1).out


@pytest.mark.linux
def test_one_that_does_not_come_up_leaves_nothing(guest_cli: Cli, linux: Recipe) -> None:
    boot = ["boot", NAME, "--machine", "g3beige", "--kernel", linux.image_path()]
    for words, told in (
        (["--append", CONSOLE], "panicked while it booted"),
        (["--append", CONSOLE, "--ready", "never (?P<ready>x)", "--timeout", "0.2"], "no line like"),
        (["--cpu", "nonsense"], "unable to find CPU model"),
        (["--smp", "2"], "Invalid SMP CPUs"),
        (["--", "-device", "nonsense"], "'nonsense' is not a valid device"),
    ):
        result = guest_cli(*boot, *words)
        assert result.code == 4, result.err
        assert told in result.err
        assert NAME not in guest_cli("ps").out


@pytest.mark.usefixtures("ended")
def test_another_board(guest_cli: Cli, tmp_path: Path) -> None:
    kernel = bare(tmp_path, HELLO)
    words = ["--machine", "bamboo", "--kernel", kernel, "--ready", "hello, b", "--json"]
    booted = guest_cli("boot", NAME, *words)
    assert booted.code == 0, booted.err
    assert booted.json["unpatchable"]
    assert guest_cli("apply", NAME, "_start", "--count").code == 3
    assert guest_cli("log", NAME, "--console").out == "hello, bamboo\n"
    assert guest_cli("ps", NAME, "--json").json["state"] == "running"
