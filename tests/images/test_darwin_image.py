from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kgdbpatch.cpu.ppc6xx.vectors import VECTORS
from kgdbpatch.errors import BadImage, BuildFailed
from kgdbpatch.guests import Recipe
from kgdbpatch.guests import darwin_build as module
from kgdbpatch.guests.booter import boot_page, loader_args
from kgdbpatch.guests.sources import guest_sources
from kgdbpatch.image import Image
from kgdbpatch.personality.base import LogLine

GCC = "powerpc-linux-gnu-gcc"
needs_gcc = pytest.mark.skipif(shutil.which(GCC) is None, reason=f"{GCC} is not installed")
recipe = Recipe.find("darwin")
darwin = recipe.personality


@pytest.fixture(scope="module")
def image() -> Image:
    return Image.load(recipe.build(print))


@needs_gcc
def test_a_copy_of_the_sources_gives_the_same_bytes(tmp_path: Path) -> None:
    sources = guest_sources("darwin")
    shutil.copytree(sources, tmp_path / "images" / "darwin")
    for converter in sources.parent.glob("macho*.py"):
        shutil.copy(converter, tmp_path / "images")
    command = [sys.executable, "images/darwin/build.py", "out"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=120)
    ours = recipe.build(print)
    for name in ("mach_kernel", "mach_kernel.elf"):
        assert (tmp_path / "out" / name).read_bytes() == (ours.parent / name).read_bytes()


@needs_gcc
def test_it_is_built_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KGDBPATCH_CACHE", str(tmp_path))
    assert recipe.image_path() is None
    said: list[str] = []
    path = recipe.build(said.append)
    assert said == ["building the darwin guest's kernel"]
    assert recipe.image_path() == path
    assert recipe.build(said.append) == path
    assert len(said) == 1


@needs_gcc
def test_a_changed_source_is_another_kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sources = guest_sources("darwin")
    copied = tmp_path / "images" / "darwin"
    shutil.copytree(sources, copied)
    for converter in sources.parent.glob("macho*.py"):
        shutil.copy(converter, copied.parent)
    monkeypatch.setattr(module, "guest_sources", lambda name: copied)
    monkeypatch.setenv("KGDBPATCH_CACHE", str(tmp_path / "cache"))
    with (copied / "kern" / "queue.c").open("a") as source:
        source.write("not C\n")
    with pytest.raises(BuildFailed, match=r"queue\.c:\d+:\d+: error"):
        recipe.build(print)
    assert recipe.image_path() is None


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildFailed, match=f"{GCC} is not installed"):
        recipe.build(print)


def test_a_syslog_line() -> None:
    line = "Nov 23 05:36:05 makaveli mach_kernel: KernMonitor/packet_counter: netisr value: 0x00000004 | 20\n"
    message = "KernMonitor/packet_counter: netisr value: 0x00000004 | 20"
    assert darwin.parse_log(line) == LogLine("Nov 23 05:36:05", "mach_kernel", message)
    assert darwin.parse_log("Nov  3 05:36:05 h mach_kernel: ") == LogLine(
        "Nov  3 05:36:05", "mach_kernel", ""
    )


@pytest.mark.parametrize(
    "line",
    [
        "",
        "panic(cpu 0): Unresolved kernel trap: 0x300 - Data access DAR=0x00000000 PC=0x00012534",
        "Nov 23 05:36:05 darwin",
        "[    1.5] Nov 23 05:36:05 darwin mach_kernel: no",
    ],
)
def test_no_syslog_line(line: str) -> None:
    assert darwin.parse_log(line) is None


def test_the_kernel_is_in_reach_of_absolute_branches_and_has_enough_functions(image: Image) -> None:
    text = next(section for section in image.code_sections() if section.name == "__TEXT,__text")
    assert text.end <= 32 << 20
    assert sum(function.section == text.name for function in image.functions) >= 400
    run_netisr = image.function_at(image.lookup("run_netisr"))
    assert run_netisr is not None
    assert run_netisr.size > 100


def test_every_vector_has_its_handler(image: Image) -> None:
    for vector in VECTORS.offsets:
        assert image.symbolize(vector) == f".L_handler{vector:X}"
    assert image.lookup("exception_exit") >= 0x2000


def test_aliases_share_a_function(image: Image) -> None:
    splhigh = image.function_at(image.lookup("splhigh"))
    assert splhigh is not None
    assert {splhigh.name, *splhigh.aliases} == {"_splhigh", "_splnet", "_splimp", "_splclock"}


def test_wired_addresses_are_physical_ones(image: Image) -> None:
    for name in ("run_netisr", "netisr", "msgbuf"):
        assert darwin.to_physical(image, image.lookup(name)) == image.lookup(name)
    linkedit = next(segment for segment in image.segments if segment.name == "__LINKEDIT")
    assert darwin.to_physical(image, linkedit.address) is None
    assert darwin.to_physical(image, 0x1500_0000) is None


def test_the_arena_is_out_of_reach_and_the_springboards_are_in_reach(image: Image) -> None:
    plan = darwin.arena(image)
    assert (plan.physical, plan.virtual, plan.size) == (256 << 20, 256 << 20, 32 << 20)
    assert plan.virtual % plan.size == 0
    assert plan.virtual - image.lookup("run_netisr") > 32 << 20
    assert plan.springboards is not None
    assert (plan.springboards.start, plan.springboards.end) == (0x1000, 0x2000)


def test_the_booter_loads_every_segment(image: Image, tmp_path: Path) -> None:
    args = loader_args(Path(image.path), tmp_path, 288 << 20, "maxmem=256")
    assert args[::2] == ["-device"] * (len(args) // 2)
    loaded = {}
    for device in args[1:-2:2]:
        fields = dict(field.split("=") for field in device.split(",")[1:])
        loaded[int(fields["addr"], 16)] = Path(fields["file"]).read_bytes()
    for segment in image.segments:
        assert loaded[segment.address] == segment.data.ljust(segment.size, b"\0")
    top = max(segment.end for segment in image.segments)
    assert loaded[top] == boot_page(top, image.entry, 288 << 20, "maxmem=256")
    assert args[-1] == f"loader,addr=0x{top + 0x400:x},cpu-num=0"


def test_the_boot_arguments_are_those_of_bootx() -> None:
    page = boot_page(0x3A000, 0x11000, 288 << 20, "maxmem=256")
    assert len(page) == 0x1000
    assert page[:4] == bytes.fromhex("0001 0001")
    assert page[4:260].rstrip(b"\0") == b"maxmem=256"
    assert page[260:268] == bytes.fromhex("00000000 12000000")
    assert page[504:508] == bytes.fromhex("0003b000")


def test_a_command_line_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than 255"):
        boot_page(0x3A000, 0x11000, 288 << 20, "x" * 256)


def test_a_kernel_that_does_not_fit_is_refused(image: Image, tmp_path: Path) -> None:
    with pytest.raises(BadImage, match="Mach-O kernel"):
        loader_args(Path(image.path), tmp_path, 0x20000, "")
