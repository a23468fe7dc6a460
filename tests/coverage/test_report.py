"""What is told of a run: three states, of functions, lines and files; differences; files of both kinds."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from kgdbpatch.coverage.html import write_pages
from kgdbpatch.coverage.lcov import tracefile
from kgdbpatch.coverage.report import (
    NOT_RUN,
    NOT_WATCHED,
    RAN,
    changed_rows,
    file_rows,
    function_rows,
    line_rows,
    place_of,
)
from kgdbpatch.coverage.run import Run, load, save
from kgdbpatch.errors import BadPatch, Misuse

from .test_lines import made

FUNCTIONS = [(0x100, 0x120, "first"), (0x120, 0x130, "second"), (0x200, 0x210, "third")]
STARTS = [0x100, 0x108, 0x118, 0x120, 0x200]
LINES = made(
    [
        (0x100, 0, 10),
        (0x104, 1, 3),
        (0x10C, 0, 11),
        (0x118, 0, 12),
        (0x120, 0, 20),
        (0x130, 0, 0),
        (0x200, 1, 7),
    ],
    "a.c",
    "b.h",
)


def run(hits: list[int], reason: list[int], *, exact: bool = False) -> Run:
    start = np.array(STARTS, np.uint32)
    return Run(
        start=start,
        end=np.array([0x104, 0x114, 0x11C, 0x12C, 0x20C], np.uint32),
        site=start,
        reason=np.array(reason, np.uint8),
        hits=np.array(hits, np.uint32),
        reasons=("", "data", "rewritten"),
        exact=exact,
        image="one",
    )


RUN = run([1, 0, 0, 0, 0], [0, 0, 2, 0, 1])


def test_functions() -> None:
    rows = function_rows(RUN, FUNCTIONS)
    assert [(row.function, row.blocks, row.watched, row.ran, row.hits, row.state) for row in rows] == [
        ("first", 3, 2, 1, 1, RAN),
        ("second", 1, 1, 0, 0, NOT_RUN),
        ("third", 1, 0, 0, None, NOT_WATCHED),
    ]
    assert RUN.unseen() == {"data": 1, "rewritten": 1}


def test_lines_have_three_states() -> None:
    rows = {(row.file, row.line): (row.state, row.hits) for row in line_rows(RUN, LINES)}
    assert rows == {
        ("a.c", 10): (RAN, 1),
        ("a.c", 11): (NOT_RUN, 0),
        ("a.c", 12): (NOT_WATCHED, None),
        ("a.c", 20): (NOT_RUN, 0),
        ("b.h", 3): (RAN, 1),  # in two blocks, of which one ran
        ("b.h", 7): (NOT_WATCHED, None),
    }
    files = [
        (row.file, row.lines, row.ran, row.not_run, row.not_watched)
        for row in file_rows(line_rows(RUN, LINES))
    ]
    assert files == [("a.c", 4, 1, 2, 1), ("b.h", 2, 1, 0, 1)]
    assert place_of(LINES, 0x121) == ("a.c", 20)
    assert place_of(LINES, 0x130) is None
    assert place_of(LINES, 0x10) is None


def test_the_most_hits_of_a_line_are_told() -> None:
    counted = run([5, 9, 0, 0, 0], [0] * 5, exact=True)
    rows = {(row.file, row.line): row.hits for row in line_rows(counted, LINES)}
    assert rows["b.h", 3] == 9
    assert rows["a.c", 10] == 5


def records(text: list[str]) -> dict[str, dict[str, list[str]]]:
    """Read a tracefile as geninfo(1) describes it."""
    found, here = dict[str, dict[str, list[str]]](), dict[str, list[str]]()
    for line in text:
        if line == "end_of_record":
            found[here["SF"][0]] = here
            here = {}
            continue
        key, colon, value = line.partition(":")
        assert colon, line
        here.setdefault(key, []).append(value)
    assert not here
    return found


def test_lcov() -> None:
    functions = function_rows(RUN, FUNCTIONS)
    found = records([*tracefile(line_rows(RUN, LINES), functions, LINES, "/tree", "guest")])
    assert found.keys() == {"/tree/a.c", "/tree/b.h"}
    first = found["/tree/a.c"]
    assert first["TN"] == ["guest"]
    assert first["FN"] == ["10,first", "20,second"]
    assert first["FNDA"] == ["1,first", "0,second"]
    assert (first["FNF"], first["FNH"]) == (["2"], ["1"])
    assert first["DA"] == ["10,1", "11,0", "20,0"]  # 12 is not watched: it is no line that was not run
    assert (first["LF"], first["LH"]) == (["3"], ["1"])
    for record in found.values():
        assert all(re.fullmatch(r"\d+,\d+", line) for line in record["DA"])


def test_pages(tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text("\n" * 9 + "if (a < b)\n")
    functions = function_rows(RUN, FUNCTIONS)
    assert write_pages(tmp_path / "out", "t", RUN, functions, line_rows(RUN, LINES), tmp_path) == 2
    index = (tmp_path / "out" / "index.html").read_text()
    assert "1 of 3 watched blocks" in index
    assert '<a href="file0.html">a.c</a>' in index
    assert "b.h" in index
    page = (tmp_path / "out" / "file0.html").read_text()
    assert '<span class="run"><span class="g">10 1</span>if (a &lt; b)</span>' in page
    for text in (index, page):
        assert not re.search(r"<(script|link|img)|src=|https?:", text)
    assert write_pages(tmp_path / "plain", "t", RUN, functions) == 1
    with pytest.raises(BadPatch):
        write_pages(tmp_path / "a.c" / "out", "t", RUN, functions)


def test_what_was_kept_is_read(tmp_path: Path) -> None:
    path = tmp_path / "kept.cov"
    save(path, RUN)
    again = load(path)
    for name in ("start", "end", "site", "reason", "hits"):
        assert np.array_equal(getattr(again, name), getattr(RUN, name))
    assert (again.reasons, again.exact, again.image) == (RUN.reasons, RUN.exact, RUN.image)
    with pytest.raises(BadPatch):
        save(tmp_path, RUN)
    with pytest.raises(BadPatch, match="No such file"):
        load(tmp_path / "none")
    for junk in (b"", b"nothing", path.read_bytes()[:100], path.read_bytes()[:-200]):
        path.write_bytes(junk)
        with pytest.raises(BadPatch, match="no coverage"):
            load(path)


def test_differences() -> None:
    before, now = run([1, 1, 0, 0, 0], [0, 0, 0, 0, 1]), run([1, 0, 1, 1, 1], [0, 0, 0, 2, 1])
    rows = [(row.function, row.new, row.gone) for row in changed_rows(now, before, FUNCTIONS)]
    assert rows == [("first", 1, 1)]  # of what is not watched in either nothing is known
    other = run([0] * 5, [0] * 5)
    object.__setattr__(other, "image", "two")
    with pytest.raises(Misuse, match="another kernel"):
        changed_rows(now, other, FUNCTIONS)


def test_two_runs_become_one() -> None:
    one, two = run([1, 0, 0, 0, 0], [0, 0, 2, 0, 1]), run([0, 1, 1, 0, 0], [0, 0, 0, 0, 1])
    both = one.merged(two)
    assert both.hits.tolist() == [1, 1, 1, 0, 0]
    assert both.unseen() == {"data": 1}
    assert (
        run([2] * 5, [0] * 5, exact=True).merged(run([3] * 5, [0] * 5, exact=True)).hits.tolist() == [5] * 5
    )
