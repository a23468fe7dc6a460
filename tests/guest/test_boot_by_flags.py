"""Guests booted by flags alone: what the user has, on boards that are described, without a recipe."""

from __future__ import annotations

import gzip
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.conftest import Cli, guest_cli
from guests.kernels import link

from kgdbpatch.errors import Refused
from kgdbpatch.guests import Recipe
from kgdbpatch.kernel import Kernel
from kgdbpatch.vm.qemu import Qemu

pytestmark = pytest.mark.long

__all__ = ["guest_cli"]  # the fixture

CONSOLE = "console=ttyPZ0 powersave=off"
NAME = f"flags-{os.getpid()}"
# where the boards of QEMU have their first serial port, a 16550 (their sources in hw/ppc)
UART = {
    "40p": 0x8000_03F8,
    "bamboo": 0xEF60_0300,
    "mpc8544ds": 0xE000_4500,
    "ppce500": 0xE000_4500,
    "ref405ep": 0xEF60_0300,
    "virtex-ml507": 0x83E0_1003,
}
# MAS0 to MAS3 and MAS7, the high part of the physical address: a MiB at 0xe0000000, entered into TLB1
TLB = """
    lis 3,0x1001; mtspr 624,3
    lis 3,0x8000; ori 3,3,0x500; mtspr 625,3
    lis 3,0xe000; ori 3,3,0xa; mtspr 626,3
    lis 3,0xe000; ori 3,3,0x5; mtspr 627,3
    li 3,{high}; mtspr 944,3
    .long 0x7c0007a4 # tlbwe
    isync
"""
HIGH = {"mpc8544ds": 0, "ppce500": 15}
HELLO = """
    .globl _start
_start:
    {tlb}
    bl 1f
1:  mflr 5
    addi 5,5,text-1b
    lis 4,{uart}@h
    ori 4,4,{uart}@l
2:  lbz 3,0(5)
    cmpwi 3,0
    beq 3f
    stb 3,0(4)
    addi 5,5,1
    b 2b
3:  mfmsr 3
    ori 3,3,0x8000
    mtmsr 3
4:  b 4b
text: .asciz "hello, {board}\\n"
    .balign 4
"""


def hello(board: str, path: Path) -> Path:
    """Make a program that says hello on a board, wherever it lies."""
    tlb = TLB.format(high=HIGH[board]) if board in HIGH else ""
    return link(HELLO.format(board=board, uart=UART[board], tlb=tlb), path, "-Wl,-Ttext=0,-n")


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
    assert "unpatchable" not in booted.json
    told = next(row for row in guest_cli("doctor", NAME, "--json").json_lines if row["topic"] == "patches")
    assert "the kernel's own allocator" in told["found"]
    made = guest_cli("apply", NAME, "do_sys_openat2", "--count", "--json")
    assert made.code == 0, made.err
    assert guest_cli("remove", NAME, "--all").code == 0
    assert guest_cli("verify", NAME, "--json").json["ok"]
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


def boots(guest_cli: Cli, board: str, path: Path, *words: str) -> None:
    booted = guest_cli(
        "boot", NAME, "--machine", board, "--kernel", path, "--ready", "hello, ", *words, "--json"
    )
    assert booted.code == 0, booted.err
    assert booted.json["unpatchable"]
    assert guest_cli("log", NAME, "--console").out.endswith(f"hello, {board}\n")


@pytest.mark.usefixtures("ended")
def test_another_board(guest_cli: Cli, tmp_path: Path) -> None:
    boots(guest_cli, "ref405ep", hello("ref405ep", tmp_path / "kernel"), "--announced", "96")
    for command in (["apply", NAME, "_start", "--count"], ["list", NAME]):
        refused = guest_cli(*command, "--json")
        assert refused.code == 3
        assert "runs without patches" in refused.err
        assert refused.err.count("\n") == 1
    with Kernel.attach(NAME) as kernel:
        assert "the 405's TLB is filled by the kernel alone, in turns" in (kernel.unpatchable or "")
        assert kernel.health.state == "running"
        with pytest.raises(Refused, match="runs without patches"):
            kernel.patch("_start", count=True)
    assert guest_cli("ps", NAME, "--json").json["state"] == "running"


@pytest.mark.usefixtures("ended")
def test_a_440_whose_kernel_wires_its_tlb_in_no_known_way(guest_cli: Cli, tmp_path: Path) -> None:
    boots(guest_cli, "bamboo", hello("bamboo", tmp_path / "kernel"), "--announced", "256")
    refused = guest_cli("apply", NAME, "_start", "--count", "--json")
    assert (refused.code, refused.json["rule"]) == (3, "mapping")
    assert "which entries of the TLB the kernel leaves alone is not known" in refused.err
    assert refused.err.count("\n") == 1
    assert guest_cli("ps", NAME, "--json").json["state"] == "running"


@pytest.mark.usefixtures("ended")
def test_two_cpus(guest_cli: Cli, tmp_path: Path) -> None:
    boots(guest_cli, "ppce500", hello("ppce500", tmp_path / "kernel"), "--smp", "2")
    cpus = Qemu.attach(NAME).qmp("query-cpus-fast")
    assert isinstance(cpus, list)
    assert len(cpus) == 2


@pytest.mark.soak
@pytest.mark.usefixtures("ended")
@pytest.mark.parametrize("board", UART)
def test_every_board(guest_cli: Cli, board: str, tmp_path: Path) -> None:
    boots(guest_cli, board, hello(board, tmp_path / "kernel"))
