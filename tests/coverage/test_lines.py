"""Line tables as objdump prints them; rows of source lines."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from kgdbpatch.coverage.lines import LineTable, line_table
from kgdbpatch.errors import BadImage
from kgdbpatch.guests import Recipe
from kgdbpatch.image import Image
from kgdbpatch.image.debug import debug_file

OBJDUMP = shutil.which("powerpc-linux-gnu-objdump")
ROW = re.compile(r"^(\S+)\s+(\d+|-)\s+0x([0-9a-f]+)")
CC = shutil.which("powerpc-linux-gnu-gcc")


def decoded(path: Path) -> dict[int, tuple[str, int]]:
    """Return address ─► file and line, as objdump has it: the last of several, nothing behind an end."""
    shown = subprocess.run(
        [OBJDUMP or "", "--dwarf=decodedline", "-WL", str(path)], capture_output=True, text=True, check=True
    )
    found = dict[int, tuple[str, int]]()
    for line in shown.stdout.splitlines():
        row = ROW.match(line)
        if row is not None:
            number = 0 if row[2] == "-" else int(row[2])
            found[int(row[3], 16)] = (row[1], number)
    return found


@pytest.mark.skipif(OBJDUMP is None, reason="needs binutils for PowerPC")
def test_lines_are_those_of_objdump(kernel_file: Path) -> None:
    table, others = line_table(kernel_file), decoded(kernel_file)
    ours = {
        int(at): (Path(table.files[file]).name, int(line))
        for at, file, line in zip(table.address, table.file, table.line, strict=True)
        if line
    }
    theirs = {at: (Path(file).name, line) for at, (file, line) in others.items() if line}
    assert len(ours) > 1000
    assert {at: line for at, line in ours.items() if theirs.get(at) != line} == {}


@pytest.fixture(scope="module")
def kernel_file() -> Path:
    image = Recipe.find("darwin").image_path()
    assert image is not None
    return debug_file(Image.load(image))


@pytest.mark.skipif(CC is None, reason="needs gcc for PowerPC")
@pytest.mark.parametrize("version", [2, 4, 5])
def test_versions(version: int, tmp_path: Path) -> None:
    (tmp_path / "one.c").write_text(
        "static inline int twice(int n) { return 2 * n; }\n\nint sum(int n)\n{\n  return twice(n) + 1;\n}\n"
    )
    options = [f"-gdwarf-{version}", "-O2", "-nostdlib", "-Ttext=0x10000", "-Wl,-e,sum"]
    subprocess.run([CC or "", *options, "-o", "one", "one.c"], cwd=tmp_path, check=True)
    table = line_table(tmp_path / "one")
    assert table.root == str(tmp_path)
    assert {*table.files} >= {"one.c"}
    lines = {
        int(line) for file, line in zip(table.file, table.line, strict=True) if table.files[file] == "one.c"
    }
    assert lines >= {1, 6}  # the first is inlined
    assert not table.line[-1]  # behind the end


def test_no_lines(tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.write_bytes(b"\x7fELF and nothing")
    with pytest.raises(BadImage):
        line_table(bad)
    with pytest.raises(BadImage):
        line_table(tmp_path / "none")


def made(rows: list[tuple[int, int, int]], *files: str) -> LineTable:
    found = np.array(rows, np.int64)
    return LineTable(found[:, 0], found[:, 1].astype(np.int32), found[:, 2], files, "/tree")
