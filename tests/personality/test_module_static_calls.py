"""The words of a module that the kernel makes calls or nops of as static calls are updated."""

from __future__ import annotations

import numpy as np
import pytest

from kgdbpatch.isa import encode
from kgdbpatch.personality.base import Window
from kgdbpatch.personality.linux.module_tables import module_tables

from .module_memory import CODE, DATA, LABEL, TARGET, Loaded, words
from .test_linux_modules import image

TAIL = 40  # of the module's code: its last return
KEY = 0xC000_2100  # in the kernel's data
NAME, LI = ".static_call_sites", 0x3860_0000


class Updated(Loaded):
    """A kernel that has loaded a module with a static call, which is the last thing that a function does."""

    def _tables(self, at: int) -> bytes:
        before = super()._tables(at)
        end = at + len(before)
        return before + words(self.code + TAIL - end, (KEY | 1) - end - 4)


class Older(Loaded):
    """A kernel that has distances in its table of fix-ups and addresses in that of jump labels (5.10)."""

    def _tables(self, at: int) -> bytes:
        before = super()._tables(at)[:8]
        return before + words(self.code + LABEL, self.code + TARGET, KEY)


def test_jump_labels_may_be_addresses_where_fix_ups_are_distances() -> None:
    memory = Older("5.1")
    found, system = image(memory), memory.system
    assert CODE in system.fault_sites(found)
    assert system.rewritten(found)[CODE + LABEL].kind == "jump label"
    assert CODE + TARGET in system.rewritten_edges(found)[CODE + LABEL]


@pytest.mark.parametrize("layout", ["6.1", "6.12"])
def test_a_static_call_of_a_module_is_no_place_for_a_patch(layout: str) -> None:
    memory = Updated(layout)
    found, system = image(memory), memory.system
    kinds = {at: what.kind for at, what in system.rewritten(found).items()}
    assert kinds[CODE + TAIL] == "static call"
    assert CODE + TAIL - 4 not in kinds
    assert system.rewritten_reads(found)[CODE + TAIL] & found.abi.args == found.abi.args


@pytest.mark.parametrize(
    ("word", "listed"),
    [
        (encode.bl(CODE, CODE - 0x100), True),
        (encode.b(CODE, CODE + 0x1000), True),
        (encode.nop(), True),
        (LI, True),
        (LI + 1, False),
        (0x4E80_0020, True),  # blr
        (encode.mflr(0), False),
        (0x4800_0003, False),  # bla 0
    ],
)
def test_what_a_static_call_may_be(word: int, listed: bool) -> None:
    def sites(*distances: int) -> list[int]:
        code = np.array([word, encode.mflr(0)], np.uint32)
        data = [(DATA, words(*distances))]
        tables = module_tables(
            Window(CODE, CODE + 8), code, data, distances=True, at=0, others=[Window(KEY, KEY + 8)]
        )
        (found,) = (table for table in tables if table.name == NAME)
        raw = np.frombuffer(found.data, ">i4").tolist()
        return [(value + 4 * index) & 0xFFFF_FFFF for index, value in enumerate(raw)]

    assert sites(CODE - DATA, (KEY | 3) - DATA - 4) == ([CODE, KEY | 3] if listed else [])
    assert sites(CODE - DATA, DATA - DATA - 4) == ([CODE, DATA] if listed else [])  # its own data
    assert sites(CODE - DATA, 0x1000 - DATA - 4) == []  # nobody's
    assert sites(CODE + 4 - DATA, KEY - DATA - 4) == []
