"""What QEMU is given is what its board boots: the user's file, or the kernel inside of it."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kgdbpatch.errors import BadImage
from kgdbpatch.guests.options import BootOptions, ordered
from kgdbpatch.image import Image

from .kernels import bare, link, linux

PLACED = "-Wl,--section-start=.kernel:vmlinux.strip=0x401000"
_WRAPPER = """
    .text
    .globl _start
_start: b _start
    .section ".kernel:vmlinux.strip","a"
    .incbin "{payload}"
"""


def objcopy(*words: object) -> None:
    subprocess.run(["powerpc-linux-gnu-objcopy", *map(str, words)], check=True)


def mkimage(place: Path, data: Path, load: int, how: str) -> Path:
    """Make a uImage as arch/powerpc/boot/wrapper of Linux does, by U-Boot's own tool."""
    if shutil.which("mkimage") is None:
        pytest.skip("not installed: mkimage (Debian: u-boot-tools)")
    made = place / "uImage"
    command = ["mkimage", "-A", "ppc", "-O", "linux", "-T", "kernel", "-C", how, "-n", "k"]
    command += ["-a", f"{load:x}", "-e", f"{load:x}", "-d", str(data), str(made)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return made


def as_elf(place: Path) -> Path:
    return linux(place)


def as_gzip(place: Path) -> Path:
    (place / "vmlinux.gz").write_bytes(gzip.compress(linux(place).read_bytes()))
    return place / "vmlinux.gz"


def as_zimage(place: Path) -> Path:
    packed, made = as_gzip(place), place / "zImage"
    link(_WRAPPER.format(payload=packed), made, "-Wl,-Ttext=0x400000", PLACED)
    return made


def as_cuimage(place: Path) -> Path:
    objcopy("-O", "binary", as_zimage(place), place / "zImage.bin")
    (place / "zImage.gz").write_bytes(gzip.compress((place / "zImage.bin").read_bytes()))
    return mkimage(place, place / "zImage.gz", 0x40_0000, "gzip")


def as_uimage(place: Path) -> Path:
    objcopy("-O", "binary", bare(place), place / "bare.bin")
    return mkimage(place, place / "bare.bin", 0x10_0000, "none")


def given(kernel: Path, machine: str, place: Path, **more: str) -> Path:
    """Return the file that QEMU is given as the kernel."""
    directory = place / "guest"
    directory.mkdir()
    recipe = ordered("x", BootOptions(machine=machine, kernel=kernel, ready="x", **more))  # type: ignore[arg-type]
    words = recipe.qemu_args(kernel, directory)
    return Path(words[words.index("-kernel") + 1])


@pytest.mark.parametrize("machine", ["g3beige", "mac99", "ppce500", "bamboo"])
@pytest.mark.parametrize("wrap", [as_elf, as_gzip, as_zimage, as_cuimage])
def test_the_elf_file_inside(wrap: Callable[[Path], Path], machine: str, tmp_path: Path) -> None:
    kernel = wrap(tmp_path)
    path = given(kernel, machine, tmp_path)
    assert path.read_bytes() == (tmp_path / "vmlinux").read_bytes()
    assert (path == kernel) == (wrap is as_elf)  # nothing is copied without need
    found = Image.load(kernel)
    assert found.lookup("_start") == 0xC000_0000


def test_a_uimage_where_the_board_takes_it(tmp_path: Path) -> None:
    kernel = as_uimage(tmp_path)
    assert given(kernel, "ppce500", tmp_path) == kernel
    shutil.rmtree(tmp_path / "guest")
    assert given(kernel, "g3beige", tmp_path).read_bytes() == (tmp_path / "bare.bin").read_bytes()


def test_untouched_if_so_wished(tmp_path: Path) -> None:
    kernel = as_zimage(tmp_path)
    assert given(kernel, "g3beige", tmp_path, loader="as-is") == kernel


def test_a_kernel_that_the_board_does_not_boot(tmp_path: Path) -> None:
    kernel = as_uimage(tmp_path)
    board = tmp_path / "board.toml"
    (own,) = (path for path in Path(__file__).parents[2].glob("qemu/g3beige.toml"))
    board.write_text(own.read_text().replace('kernels = ["elf", "raw"]', 'kernels = ["elf"]'))
    with pytest.raises(BadImage, match="machine 'board' boots elf files, this is raw inside"):
        given(kernel, str(board), tmp_path)


def test_device_starts_it_where_it_says(tmp_path: Path) -> None:
    kernel = as_uimage(tmp_path)
    recipe = ordered("x", BootOptions(machine="g3beige", kernel=kernel, ready="x", loader="device"))
    words = recipe.qemu_args(kernel, tmp_path)
    assert f"loader,file={tmp_path}/boot-kernel.bin,addr=0x100000,force-raw=on" in words
    assert "loader,addr=0x100000,cpu-num=0" in words


def test_of_an_elf_file_a_board_for_raw_ones_gets_the_memory(tmp_path: Path) -> None:
    kernel = linux(tmp_path)
    objcopy("-O", "binary", kernel, tmp_path / "Image")
    assert given(kernel, "40p", tmp_path).read_bytes() == (tmp_path / "Image").read_bytes()
    late = link("nop\n.globl _start\n_start: b .\n", tmp_path / "late", "-Wl,-Ttext=0,-n")
    shutil.rmtree(tmp_path / "guest")
    with pytest.raises(BadImage, match="starts elsewhere"):
        given(late, "40p", tmp_path, loader="qemu")


def test_a_kernel_that_lies_on_a_disk_is_not_given(tmp_path: Path) -> None:
    kernel = linux(tmp_path)
    recipe = ordered("x", BootOptions(machine="mac99", kernel=kernel, ready="x", loader="firmware"))
    assert recipe.qemu_args(kernel, tmp_path) == []


@pytest.mark.parametrize(
    ("machine", "address", "entry", "loader"),
    [
        ("g3beige", "0xc0000000", "0xc0000000", "qemu"),
        ("g3beige", "0x00000000", "0x00000000", "qemu"),
        ("g3beige", "0x00100000", "0x00100000", "device"),  # OpenBIOS would start it a MiB too early
        ("g3beige", "0xc0000000", "0xc0000004", "device"),
        ("ppce500", "0x00100000", "0x00100004", "qemu"),  # is started at its entry
    ],
)
def test_a_kernel_is_started_where_its_file_says(
    tmp_path: Path, machine: str, address: str, entry: str, loader: str
) -> None:
    kernel = link("nop; b .\n", tmp_path / "k", "-nostartfiles", f"-Wl,-Ttext={address},-e,{entry}", "-Wl,-n")
    assert ordered("x", BootOptions(machine=machine, kernel=kernel)).boot.loader == loader


def test_an_initrd_that_does_not_fit(tmp_path: Path) -> None:
    kernel, initrd = linux(tmp_path), tmp_path / "initrd"
    with initrd.open("wb") as file:
        file.truncate(64 << 20)
    options = BootOptions(
        machine="g3beige", kernel=kernel, initrd=initrd, append="mem=64M", memory=96, ready="x"
    )
    with pytest.raises(BadImage, match="an initrd of 64 MiB does not fit beside the kernel into 64 MiB"):
        ordered("x", options).qemu_args(kernel, tmp_path)
