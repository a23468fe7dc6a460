from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgdbpatch.errors import BuildFailed
from kgdbpatch.guests import linux_build
from kgdbpatch.guests.cpio import device, directory, file, newc
from kgdbpatch.guests.sources import guest_sources

needs_cpio = pytest.mark.skipif(shutil.which("cpio") is None, reason="GNU cpio reads what we wrote")


def cpio(archive: bytes, *arguments: str) -> bytes:
    done = subprocess.run(
        ["cpio", "--quiet", *arguments], input=archive, capture_output=True, check=True, timeout=30
    )
    assert done.stderr == b""
    return done.stdout


@needs_cpio
def test_cpio_lists_what_was_written() -> None:
    archive = newc([directory("dev"), device("dev/console", 5, 1), file("init", b"\x7fELF", 0o755)])
    lines = [line.split() for line in cpio(archive, "-itv", "--numeric-uid-gid").decode().splitlines()]
    seen = [(line[0], line[2:4], line[-1]) for line in lines]
    assert seen == [
        ("drwxr-xr-x", ["0", "0"], "dev"),
        ("crw-------", ["0", "0"], "dev/console"),
        ("-rwxr-xr-x", ["0", "0"], "init"),
    ]
    assert lines[1][4:6] == ["5,", "1"]


@needs_cpio
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=6), st.integers(1, 9))
def test_cpio_reads_back_data_of_every_length(contents: list[bytes], length: int) -> None:
    names = ["n" * length + str(number) for number in range(len(contents))]
    archive = newc(map(file, names, contents))
    assert len(archive) % 512 == 0
    assert cpio(archive, "-i", "--to-stdout") == b"".join(contents)


def test_an_option_that_was_not_taken_is_named() -> None:
    wanted = "# a comment\nCONFIG_NET=y\nCONFIG_VT=n\nCONFIG_HZ=250\nCONFIG_GONE=y\n"
    got = "CONFIG_NET=y\nCONFIG_VT=y\nCONFIG_HZ=250\n# CONFIG_GONE is not set\n"
    assert linux_build.missing_options(wanted, got) == ["CONFIG_VT=n", "CONFIG_GONE=y"]


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the packages of kernel sources put theirs."""
    place = tmp_path / "sources"
    place.mkdir()
    monkeypatch.setattr(linux_build, "SOURCES", place)
    return place


def test_a_missing_source_package_is_named(sources: Path) -> None:
    (sources / "linux-source-6.12").mkdir()
    (sources / "linux-source-6.1.tar.xz.part").touch()
    with pytest.raises(BuildFailed, match=r"install Debian's package linux-source-6\.1"):
        linux_build.cached_kernel()


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        (["6.1.tar.xz", "6.12.tar.xz", "7.0.tar.zst"], "6.1.tar.xz"),
        (["6.12.tar.xz", "6.9.tar.xz", "6.2.tar.xz"], "6.12.tar.xz"),
        (["6.8.0.tar.bz2"], "6.8.0.tar.bz2"),
    ],
)
def test_any_version_of_the_source_will_do(sources: Path, there: list[str], taken: str) -> None:
    for name in there:
        (sources / f"linux-source-{name}").touch()
    assert linux_build.source().name == f"linux-source-{taken}"


def test_options_that_a_version_does_not_have_are_told_from_those_it_refuses(tmp_path: Path) -> None:
    (tmp_path / "mm").mkdir()
    (tmp_path / "Kconfig").write_text('config NET\n\tbool "net"\n')
    (tmp_path / "mm/Kconfig.debug").write_text("menuconfig SLUB\n# config SLAB\n\tconfig VT\n")
    wanted = ["CONFIG_NET=y", "CONFIG_SLUB=y", "CONFIG_VT=n", "CONFIG_SLAB=y", "CONFIG_NE=y"]
    assert linux_build.unknown_options(tmp_path, wanted) == ["CONFIG_SLAB=y", "CONFIG_NE=y"]


def test_the_line_that_says_why_is_found() -> None:
    stopped = [
        "make[1]: *** [scripts/Makefile:77: allnoconfig] Error 1",
        "make: *** [Makefile:7: it] Error 2",
    ]
    assert (
        linux_build.reason(["  CC x.o", "x.c:7:1: error: what?", "  CC y.o", *stopped])
        == "x.c:7:1: error: what?"
    )
    assert linux_build.reason(["  HOSTCC conf", "can't open file", *stopped]) == "can't open file"
    missing = "make[2]: *** No rule to make target 'a.dts', needed by 'a.dtb'.  Stop."
    assert linux_build.reason(["  CC x.o", missing, "make[1]: *** [Makefile:9: x] Error 2"]) == missing
    assert linux_build.reason([]) == "no output"


@pytest.mark.parametrize("suffix", ["xz", "gz"])
def test_a_failing_build_quotes_make_and_leaves_nothing(
    in_cache: Path, sources: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    tree = in_cache / "source" / "linux"
    tree.mkdir(parents=True)
    (tree / "Makefile").write_text("allnoconfig:\n\t@echo kernel/fork.c:7: error: no such thing >&2; false\n")
    tarball = sources / f"linux-source-6.12.tar.{suffix}"
    subprocess.run(["tar", "-caf", tarball, "-C", tree.parent, "linux"], check=True, timeout=30)
    monkeypatch.setattr(linux_build, "SCRATCH", 1 << 20)
    with pytest.raises(BuildFailed, match=r"kernel/fork\.c:7: error: no such thing"):
        linux_build.build_kernel(lambda line: None)
    assert not [path for path in in_cache.iterdir() if path.is_dir() and path not in (tree.parent, sources)]


@pytest.fixture
def in_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KGDBPATCH_CACHE", str(tmp_path))
    return tmp_path


def test_guest_sources_are_found_and_unknown_ones_named() -> None:
    assert (guest_sources("linux") / "init.c").is_file()
    with pytest.raises(BuildFailed, match="'vax'"):
        guest_sources("vax")


def test_what_the_sources_tools_read_is_unpacked(tmp_path: Path) -> None:
    top, place = tmp_path / "linux-source-7.9", tmp_path / "unpacked"
    files = ("arch/x86/a.h", "arch/powerpc/a.h", "tools/arch/x86/a.h", "arch/x86/Kconfig", "sound/a.c", "a.c")
    for name in files:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).touch()
    archive = tmp_path / "linux-source-7.9.tar.xz"
    subprocess.run(["tar", "-cJf", archive, "-C", tmp_path, top.name], check=True)
    place.mkdir()
    linux_build.unpack(archive, place)
    unpacked = {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}
    assert unpacked == {*files} - {"arch/x86/a.h", "sound/a.c"}
