"""Functions, and whole programs, without any instruction."""

from __future__ import annotations

import numpy as np
import pytest

from kgdbpatch.analysis.interprocedural import analyze_program
from kgdbpatch.analysis.regset import EVERYTHING
from kgdbpatch.isa.abi import SYSV


@pytest.mark.parametrize("functions", [[], [(0x1000, 0)], [(0x1000, 0), (0x1004, 3)], [(0x8000, 16)]])
def test_where_no_function_has_code_everything_is_live(functions: list[tuple[int, int]]) -> None:
    words = np.array([0x60000000, 0x4E800020], dtype=np.uint32)
    found = analyze_program([(0x1000, words)], functions, SYSV, [])
    assert found.everywhere(found.solve()).tolist() == [EVERYTHING] * 2


def test_a_program_may_have_no_words() -> None:
    found = analyze_program([], [(0x1000, 8)], SYSV, [])
    assert found.everywhere(found.solve()).tolist() == []
