"""Whose a name is that a payload leaves undefined: the kernel's or a patch's."""

from __future__ import annotations

from typing import Any

import pytest

from kgdbpatch.errors import Misuse, UnknownSymbol
from kgdbpatch.kernel.patch_names import Noted, PatchNames
from kgdbpatch.variables import Note, Symbol, Variable
from kgdbpatch.variables.shape import Shape

INT = Shape("int", 4, "signed")


class OneRecord:
    def __init__(self, patch_id: int) -> None:
        self.id, self.body, self.body_size = patch_id, 0x1000 * patch_id, 0x100


class TwoNames:
    """A kernel with a global name and a local one."""

    def exports(self, name: str) -> bool:
        return name == "printf"

    def knows(self, name: str) -> bool:
        return name in ("printf", "limit", "mine")

    def lookup(self, name: str) -> int:
        if not self.knows(name):
            raise UnknownSymbol(name, "vmlinux")
        return 0xC000_0000 + len(name)


def noted(patch_id: int, source: str, *names: str) -> Any:
    variables = tuple(Variable(name, "", 4 * n, INT, True) for n, name in enumerate(names))
    hidden = Variable("inner", "probe", 0x40, INT, False)
    functions = (Symbol("probe", 0x80, True), Symbol("quiet", 0x90, False))
    note = Note(source, 0, (*variables, hidden), functions)
    record: Any = OneRecord(patch_id)
    return Noted(record, record.body + 0x10, note)


@pytest.fixture
def names() -> PatchNames:
    arena: Any = None
    found = PatchNames(arena)
    found.__dict__["noted"] = [
        noted(3, "a/packet-counter.c", "limit", "hits", "printf"),
        noted(4, "<c>", "hits", "only"),
    ]
    return found


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("only", (0x4014, 4)),
        ("3:hits", (0x3014, 3)),
        ("4:hits", (0x4010, 4)),
        ("packet_counter:hits", (0x3014, 3)),
        ("packet-counter:limit", (0x3010, 3)),
        ("packet_counter:inner", (0x3050, 3)),
        ("packet_counter:probe::inner", (0x3050, 3)),
        ("4:quiet", (0x40A0, 4)),
        ("printf", (0xC000_0006, None)),
        ("mine", (0xC000_0004, None)),
        ("kernel:limit", (0xC000_0005, None)),
    ],
)
def test_whose_a_name_is(names: PatchNames, name: str, found: tuple[int, int | None]) -> None:
    image: Any = TwoNames()
    assert names.find(name, image) == found


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hits", "ambiguous among the patches: 3:hits, 4:hits"),
        ("limit", "is patch 3's, and a local name of the kernel's: say which"),
        ("quiet", "no symbol 'quiet' in vmlinux"),
        ("inner", "no symbol 'inner' in vmlinux"),
        ("5:hits", "no symbol '5:hits' in the patches"),
        ("packet_counter:hit", "no symbol 'packet_counter:hit' in the patches; did you mean hits?"),
        ("other:hits", "no symbol 'other:hits' in the patches"),
    ],
)
def test_whose_a_name_is_not(names: PatchNames, name: str, said: str) -> None:
    image: Any = TwoNames()
    with pytest.raises(Misuse) as error:
        names.find(name, image)
    assert said in str(error.value)


def test_what_an_address_is(names: PatchNames) -> None:
    first = names.noted[0]
    assert first.symbolize(0x3016) == "3:hits"
    assert first.symbolize(0x3094) == "3:probe+0x4"
    assert first.symbolize(0x3000) == "patch 3"


def test_what_a_patch_is_called(names: PatchNames) -> None:
    assert names.patch_id("7") == 7
    assert names.patch_id("packet_counter") == 3
    with pytest.raises(Misuse, match="no patch is called 'packet'"):
        names.patch_id("packet")
    again = noted(5, "packet_counter.c")
    names.noted.append(again)
    with pytest.raises(Misuse, match="several patches are called 'packet_counter': 3, 5"):
        names.patch_id("packet_counter")
