"""Code in the variable-length encoding of the e200 is refused, not read as classic PowerPC."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from kgdbpatch.cli.main import run
from kgdbpatch.errors import BadImage
from kgdbpatch.image import Image

_TOOLS = ("powerpc-linux-gnu-as", "powerpc-linux-gnu-ld")
pytestmark = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in _TOOLS), reason="GNU binutils for PowerPC are not installed"
)

_CLASSIC = ".text\n.globl _start\n_start: li 3,7\n blr\n"
_VLE = '.section .boot,"axv"\n.globl early\nearly: se_li r4,2\n se_blr\n e_lis r5,4\n'


def _link(folder: Path, **sources: str) -> Path:
    """Link sources by the name of their machine (``vle``, ``ppc``)."""
    as_, ld = _TOOLS
    for machine, source in sources.items():
        (folder / f"{machine}.s").write_text(source)
        command = [as_, f"-m{machine}", "-mregnames", "-a32", "-o", f"{machine}.o", f"{machine}.s"]
        subprocess.run(command, check=True, cwd=folder)
    objects = [f"{machine}.o" for machine in sources]
    subprocess.run([ld, "-melf32ppc", "-e", "0", "-o", "k", *objects], check=True, cwd=folder)
    return folder / "k"


def test_one_line_says_that_vle_is_not_supported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kernel = _link(tmp_path, vle=_VLE)
    for command in (["functions"], ["analyze"], ["live"], ["cfg"]):
        site = ["early"] if command[0] in ("live", "cfg") else []
        assert run([*command, str(kernel), *site]) == 5
        out, error = capsys.readouterr()
        assert (out, error.count("\n")) == ("", 1)
        assert "VLE code is not supported" in error


def _unmarked(data: bytes, table: int, size: int, at: int) -> bytes:
    """Return an ELF file whose headers of one table lack the VLE flag."""
    (start,) = struct.unpack_from(">I", data, table)
    (count,) = struct.unpack_from(">H", data, 44 if size == 32 else 48)
    changed = bytearray(data)
    for number in range(count):
        flags = start + number * size + at
        changed[flags] &= 0xEF
    return bytes(changed)


@pytest.mark.parametrize(("table", "size", "at"), [(28, 32, 24), (32, 40, 8)], ids=["sections", "segments"])
def test_either_flag_alone_tells(tmp_path: Path, table: int, size: int, at: int) -> None:
    kernel = _link(tmp_path, ppc=_CLASSIC, vle=_VLE)
    kernel.write_bytes(_unmarked(kernel.read_bytes(), table, size, at))
    with pytest.raises(BadImage, match="VLE code is not supported"):
        Image.load(kernel)


def test_classic_code_made_by_the_same_tools_is_read(tmp_path: Path) -> None:
    assert [f.name for f in Image.load(_link(tmp_path, ppc=_CLASSIC)).functions] == ["_start"]
