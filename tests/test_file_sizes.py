"""No file of the package grows so long that nobody reads it whole."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import kgdbpatch

PACKAGE = Path(kgdbpatch.__file__).parent
MOST, USUAL = 400, 120  # lines


def _lengths(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): len(path.read_text().splitlines())
        for path in sorted(folder.rglob("*.py"))
    }


def test_no_file_is_too_long() -> None:
    assert {path: lines for path, lines in _lengths(PACKAGE).items() if lines > MOST} == {}


def test_most_are_short() -> None:
    assert median(_lengths(PACKAGE).values()) < USUAL


def test_a_long_one_is_found(tmp_path: Path) -> None:
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "long.py").write_text("pass\n" * (MOST + 1))
    assert _lengths(tmp_path) == {"room/long.py": MOST + 1}
