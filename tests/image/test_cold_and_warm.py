"""Every format reads the same the first time and from the cache: words, segments, and what commands say."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kgdbpatch.cli.app import application
from kgdbpatch.image import Image

from . import machobject
from .conftest import macho

_GCC, _LD = "powerpc-linux-gnu-gcc", "powerpc-linux-gnu-ld"
_C = r"""
extern int outside(const char *, ...);
extern int far_away[];
static int state = 3;
int shared[20];
int (*hooks[2])(int);
__attribute__((noinline)) static int inner(int n) { return outside("%d", n) + state + far_away[n]; }
int entry(int n)
{
    hooks[0] = inner;
    switch (n) {
    case 0: return inner(4) * 2;
    case 1: return shared[n] + far_away[0x5000];
    case 2: state = n; return 9;
    case 3: return outside("three") + 1;
    case 4: return hooks[n & 1](n);
    case 5: return inner(n) - 7;
    }
    return state;
}
"""
_OTHERS = "int far_away[0x6000]; int outside(const char *f, ...) { return *f; }\n"


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True)


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which(_GCC):
        pytest.skip(f"{_GCC} is not installed")
    place = tmp_path_factory.mktemp("objects")
    flags = ["-O1", "-ffreestanding", "-fleading-underscore", "-msdata=none", "-fno-pic"]
    flags += ["-fno-asynchronous-unwind-tables", "-fno-merge-constants"]
    for name, text in (("code", _C), ("rest", _OTHERS)):
        (place / f"{name}.c").write_text(text)
        _run(_GCC, "-c", *flags, "-o", place / f"{name}.o", place / f"{name}.c")
    _run(
        _LD, "-e", "_entry", "-Ttext=0xc0001000", "-o", place / "vmlinux", place / "code.o", place / "rest.o"
    )
    _run("powerpc-linux-gnu-strip", "-s", "-o", place / "stripped", place / "vmlinux")
    return place


def _object(place: Path, *, scattered: bool) -> bytes:
    elf = machobject.read_elf_object((place / "code.o").read_bytes())
    return machobject.build(elf, scattered=scattered)


def _fat(part: bytes) -> bytes:
    other = bytes(40)  # of a CPU that is not ours
    return struct.pack(">2I5I5I", 0xCAFEBABE, 2, 7, 0, 48, 40, 0, 18, 0, 88, len(part), 0) + other + part


_FORMATS: dict[str, Callable[[Path], bytes]] = {
    "mach-o": lambda place: macho().build(),
    "mach-o object": lambda place: _object(place, scattered=False),
    "mach-o object, scattered": lambda place: _object(place, scattered=True),
    "fat": lambda place: _fat(macho().build()),
    "fat object": lambda place: _fat(_object(place, scattered=True)),
    "elf": lambda place: (place / "vmlinux").read_bytes(),
    "elf, stripped": lambda place: (place / "stripped").read_bytes(),
}


@pytest.fixture(params=_FORMATS)
def kernel(
    request: pytest.FixtureRequest, objects: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    monkeypatch.setenv("KGDBPATCH_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "kernel"
    path.write_bytes(_FORMATS[request.param](objects))
    return path


def test_words_and_segments(kernel: Path) -> None:
    cold, warm = Image.load(kernel), Image.load(kernel)
    assert (warm.sections, warm.segments, warm.symbols) == (cold.sections, cold.segments, cold.symbols)
    assert (warm.entry, warm.format, warm.functions) == (cold.entry, cold.format, cold.functions)
    for section in cold.code_sections():
        assert (warm.words(section) == cold.words(section)).all()


def _say(*arguments: str) -> str:
    result = CliRunner().invoke(application(), [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    return result.output


def _answers(kernel: Path) -> list[str]:
    """Return what commands say of a kernel and of some functions of it, the time taken left aside."""
    functions = _say("functions", str(kernel))
    names = [json.loads(line)["name"] for line in functions.splitlines()]
    assert len(names) > 1
    figures = json.loads(_say("analyze", str(kernel)))
    figures.pop("seconds")
    graphs = [_say(command, str(kernel), name) for name in names[:3] for command in ("cfg", "live")]
    return [functions, json.dumps(figures), *graphs]


def test_commands(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as without:
        without.setenv("KGDBPATCH_CACHE", "/dev/null/nowhere")
        cold = _answers(kernel)
    _answers(kernel)
    assert _answers(kernel) == cold
