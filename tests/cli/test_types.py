"""kgdbpatch type."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import Cli

SOURCE = """
struct place { int line; unsigned flag:1, more:3; struct place *next; };
typedef struct place place_t;
enum state { OFF, ON };
int _start(place_t *place, enum state state) { return place->line + state; }
"""
FLAGS = ("-O1", "-nostdlib", "-static", "-fno-pic", "-no-pie", "-Wl,--build-id=none")


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("powerpc-linux-gnu-gcc") is None:
        pytest.skip("powerpc-linux-gnu-gcc is not installed")
    directory = tmp_path_factory.mktemp("typed")
    (directory / "kernel.c").write_text(SOURCE)
    for name, option in (("kernel", "-g"), ("bare", "-g0"), ("btf", "-gbtf")):
        command = [
            "powerpc-linux-gnu-gcc",
            *FLAGS,
            option,
            str(directory / "kernel.c"),
            "-o",
            str(directory / name),
        ]
        subprocess.run(command, check=True)
    return directory / "kernel"


@pytest.mark.parametrize("file", ["kernel", "btf"])
def test_a_structure(cli: Cli, kernel: Path, file: str) -> None:
    for name in ("struct place", "place"):
        result = cli("type", kernel.with_name(file), name)
        assert result.code == 0
        assert "struct place *next;" in result.out
        assert "/* size: 12, members: 4 */" in result.out
    record = cli("type", kernel.with_name(file), "struct place", "--json").json
    assert record["name"] == "place"
    assert record["kind"] == "struct"
    assert record["size"] == 12
    assert [one["offset"] for one in record["members"]] == [0, 4, 4, 8]
    assert record["members"][2] == {
        "name": "more",
        "type": "unsigned int",
        "offset": 4,
        "size": 4,
        "bit_offset": 1,
        "bit_size": 3,
    }


def test_others(cli: Cli, kernel: Path) -> None:
    assert cli("type", kernel, "place_t").out == "typedef struct place place_t;\n"
    assert "ON = 1," in cli("type", kernel, "enum state").out
    assert cli("type", kernel, "_start").out == "int _start(place_t *place, enum state state);\n"
    assert cli("type", kernel, "place.next").out == "struct place *next;\t/* offset 8, size 4 */\n"
    assert cli("type", kernel, "place.more", "--json").json["bit_offset"] == 1
    assert cli("type", kernel, "pla*", "--json").json_lines == [
        {"name": "place", "kind": "struct"},
        {"name": "place_t", "kind": "typedef"},
    ]
    assert "_Static_assert(sizeof(struct place) == 12" in cli("type", kernel, "place", "--header").out


def test_what_is_not_there(cli: Cli, kernel: Path) -> None:
    result = cli("type", kernel, "struct plaec")
    assert result.code == 2
    assert "did you mean place" in result.err
    assert cli("type", kernel, "place.nxet").code == 2
    assert cli("type", kernel, "nothing*").code == 2
    assert cli("type", "nobody", "place").code == 2


def test_no_debug_information(cli: Cli, kernel: Path) -> None:
    bare = kernel.with_name("bare")
    result = cli("type", bare, "struct place")
    assert result.code == 5
    assert "CONFIG_DEBUG_INFO" in result.err
    assert "--image FILE" in result.err
    assert result.err.count("\n") == 1
    assert cli("type", bare, "struct place", "--image", kernel).code == 0
    assert cli("type", bare, "struct place", "--image", kernel.with_name("none")).code == 5


@pytest.mark.parametrize("file", ["kernel", "btf"])
def test_truncated(cli: Cli, kernel: Path, file: str, tmp_path: Path) -> None:
    whole = kernel.with_name(file).read_bytes()
    bad = tmp_path / "bad"
    at = whole.index(b".symtab\0")  # the sections' headers stand behind
    bad.write_bytes(whole[: at // 2])
    result = cli("type", bad, "struct place")
    assert result.code == 5
    assert result.err.count("\n") == 1
