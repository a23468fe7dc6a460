"""Line tables: what objdump reads of them, by line and by address."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from kgdbpatch.errors import BadImage
from kgdbpatch.image import Image
from kgdbpatch.image.line_table import LineTable

TOOLS = "powerpc-linux-gnu-"
pytestmark = pytest.mark.skipif(shutil.which(f"{TOOLS}gcc") is None, reason=f"{TOOLS}gcc is not installed")
ROW = re.compile(r"^(\S+)\s+(\d+|-)\s+0x([0-9a-f]+)(?:\s+\d+)?(\s+x)?(?:\s+END)?$", re.MULTILINE)
HEADER = """
static inline int twice(int a)
{
    if (a > 3)
        a -= 2;
    return a * 2;
}
"""
SOURCE = """
#include "parts/twice.h"
int first(int a)
{
    int sum = 0;
    for (int i = 0; i < a; i++)
        sum += twice(i);
    return sum;
}

int second(int a)
{
    return twice(a + 1);
}
"""
FORMS = ["-gdwarf-2", "-gdwarf-3", "-gdwarf-4", "-gdwarf-5", "-gdwarf-5 -gz"]


@pytest.fixture(params=FORMS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return built(tmp_path, *request.param.split())


def built(directory: Path, *flags: str) -> Path:
    (directory / "parts").mkdir()
    (directory / "parts/twice.h").write_text(HEADER)
    (directory / "main.c").write_text(SOURCE)
    common = ["-O2", "-nostdlib", "-static", "-fno-pic", "-no-pie", "-Wl,-e,first,--build-id=none"]
    words = [f"{TOOLS}gcc", *common, *flags, "main.c", "-o", "whole"]
    subprocess.run(words, check=True, cwd=directory)
    return directory / "whole"


def by_objdump(path: Path) -> set[tuple[str, int, int]]:
    """Return the file's last name, line and address of each row that begins a statement."""
    words = [f"{TOOLS}objdump", "-WL", str(path)]
    text = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    return {
        (name.rpartition("/")[2], int(line), int(address, 16))
        for name, line, address, stmt in ROW.findall(text)
        if stmt and line != "-"
    }


def test_rows_are_those_of_objdump(path: Path) -> None:
    table = LineTable.of(Image.load(path))
    assert table.named("main.c") == ["main.c"]
    assert table.named("twice.h") == table.named("parts/twice.h") == ["parts/twice.h"]
    assert table.named("nosuch.c") == []
    ours = {
        (file.rpartition("/")[2], line, address)
        for file in table.files
        for line, addresses in table.lines(file).items()
        for address in addresses
    }
    theirs = by_objdump(path)
    assert ours <= theirs
    assert {(file, line) for file, line, _ in ours} == {(file, line) for file, line, _ in theirs}
    assert len(ours) > 10


def test_inlined_copies_are_found(path: Path) -> None:
    image = Image.load(path)
    table = LineTable.of(image)
    around = {image.function_at(at) for at in table.lines("parts/twice.h")[4]}
    assert {function.name for function in around if function} == {"first", "second"}
    for line, addresses in table.lines("main.c").items():
        for address in addresses:
            found = table.at(address)
            assert found is not None
            assert found[0] in ("main.c", "parts/twice.h") or line
    assert table.at(0) is None
    assert table.at(0xFFFF_FFFC) is None


def test_without_lines(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match="no debug information"):
        LineTable.of(Image.load(built(tmp_path)))


@pytest.mark.parametrize("cut", [2, 9, 40])
def test_a_damaged_table_is_told(tmp_path: Path, cut: int) -> None:
    path = built(tmp_path, "-gdwarf-5")
    data = bytearray(path.read_bytes())
    words = [f"{TOOLS}readelf", "-SW", str(path)]
    text = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    place = re.search(r"\.debug_line\s+PROGBITS\s+\w+ (\w+) (\w+)", text)
    assert place
    start, size = (int(word, 16) for word in place.groups())
    data[start + cut : start + size] = b"\xff" * (size - cut)
    path.write_bytes(data)
    with pytest.raises(BadImage):
        LineTable.of(Image.load(path))
