"""Modules are found in memory by what their structures look like, whatever the kernel's version."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from kgdbpatch.errors import BadImage
from kgdbpatch.image.loaded import ModuleImage
from kgdbpatch.personality.base import Module, Modules

from .module_memory import CODE, LABEL, LAYOUTS, NAMES, Loaded, words

ENTRY, TARGET = 24, 28


def finder(memory: Loaded) -> Modules:
    found = memory.system.modules(memory.image, memory.ram.read)
    assert found is not None
    return found


def modules(memory: Loaded) -> Sequence[Module]:
    return finder(memory).loaded()


def image(memory: Loaded) -> ModuleImage:
    found = finder(memory)

    def read(address: int, count: int) -> npt.NDArray[np.uint32]:
        at = found.physical(address)
        assert at is not None
        return memory.ram.array(at, 4 * count).view(">u4").astype(np.uint32)

    return found.image(found.loaded()[0], read)


@pytest.fixture(params=LAYOUTS)
def memory(request: pytest.FixtureRequest) -> Loaded:
    return Loaded(request.param)


def test_its_code_and_its_functions(memory: Loaded) -> None:
    (module,) = modules(memory)
    assert (module.name, module.live, module.code.start) == ("one", True, CODE)
    assert CODE + 44 <= module.code.end <= CODE + 4096
    found = image(memory)
    assert {f.name: (f.address - CODE, f.size) for f in found.functions if f.name != "adds"} == {
        name: place for name, place in NAMES.items() if name != "adds"
    }
    last = found.lookup("adds")  # the last one reaches to the end of the code where no size is kept
    assert found.function_at(last + 4) is not None
    assert found.lookup("there") == memory.data + 0x20
    assert found.symbolize(CODE + 20) == "switches+0x4 [one]"
    assert [s.exported for s in found.symbols.called("adds")] == [False]
    assert [s.exported for s in found.symbols.called("reads")] == [True]


def test_what_the_kernel_looks_up_and_rewrites(memory: Loaded) -> None:
    found, system = image(memory), memory.system
    assert CODE in system.fault_sites(found)
    assert dict(system.exceptional_edges(found) or {})[CODE] == (CODE + 8,)
    kinds = {at: what.kind for at, what in system.rewritten(found).items()}
    assert kinds[CODE + LABEL] == "jump label"
    assert kinds[CODE + ENTRY] == "ftrace entry"
    assert CODE + TARGET in system.rewritten_edges(found)[CODE + LABEL]
    free = {*range(CODE, CODE + 44, 4)} - {CODE, CODE + LABEL, CODE + ENTRY}
    assert not free & (kinds.keys() | system.fault_sites(found))


def test_another_load_is_another_module(memory: Loaded) -> None:
    (before,) = modules(memory)
    memory.map(CODE, 1)  # other pages
    memory.write(CODE, words(*[0x6000_0000] * 11))
    (after,) = modules(memory)
    assert before.id != after.id
    assert before.id[:3] == after.id[:3]


@pytest.mark.parametrize(("state", "live"), [(0, True), (1, False), (2, False), (3, None)])
def test_states(state: int, live: bool | None) -> None:
    found = modules(Loaded("6.1", state=state))
    assert [module.live for module in found] == ([] if live is None else [live])


def test_without_modules(memory: Loaded) -> None:
    memory.link()
    assert modules(memory) == []


def test_one_that_is_not_understood_is_left_out(memory: Loaded) -> None:
    memory.write(memory.data + 0x800, b"\xff" * 64)  # its symbols
    assert modules(memory) == []


def test_a_list_without_an_end(memory: Loaded) -> None:
    memory.write(memory.structure + 4, words(memory.structure + 4))
    with pytest.raises(BadImage, match="no end"):
        modules(memory)


@pytest.mark.parametrize(("offset", "word"), [(0, 0xC000_0000), (12, 0)])
def test_what_is_no_module(memory: Loaded, offset: int, word: int) -> None:
    memory.write(memory.structure + offset, words(word))
    with pytest.raises(BadImage, match="no known way"):
        modules(memory)


def test_a_list_that_leads_nowhere(memory: Loaded) -> None:
    memory.write(0xC000_2000, words(0xF000_0000))
    with pytest.raises(BadImage, match="0xeffffffc"):
        modules(memory)


def test_a_page_that_went_is_no_memory(memory: Loaded) -> None:
    at = finder(memory)
    assert at.physical(CODE + 8) is not None
    memory.unmap(CODE)
    assert at.physical(CODE + 8) is None
