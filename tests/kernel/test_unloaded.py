"""Patches whose module was unloaded: named, given back, and nothing is written where the module was."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest
from analysis.code import needs_as

from kgdbpatch.component import layout
from kgdbpatch.errors import BadImage, Outdated, Refused
from kgdbpatch.image import Image
from kgdbpatch.image.loaded import ModuleImage
from kgdbpatch.kernel.removal import take_out
from kgdbpatch.personality.base import Module, Window

from .tiny import Near, Tiny

pytestmark = needs_as

OTHER = b"somebody else's "


class Loads(Near):
    """A system of which some code counts as a module's."""

    def __init__(self) -> None:
        super().__init__()
        self.now: list[Module] = []

    def modules(self, image: Image, read: Callable[[int, int], bytes]) -> Loads:
        return self

    def physical(self, address: int) -> int | None:
        return address

    def loaded(self) -> Sequence[Module]:
        return self.now

    def image(self, module: Module, words: Callable[[int, int], npt.NDArray[np.uint32]]) -> ModuleImage:
        raise BadImage("", "not of interest")


class Guest(Tiny):
    """The tiny kernel; what is from leaf3 to leaf6 is the module ``leafy``."""

    def __init__(self, image: Image) -> None:
        self.loads = Loads()
        super().__init__(image, self.loads)
        self.code = Window(image.lookup("leaf3"), image.lookup("leaf6"))
        self.own = self.ram.read(self.code.start, self.code.end - self.code.start)
        self.load()

    def load(self, frames: int = 1) -> None:
        self.ram.write(self.code.start, self.own)
        module = Module("leafy", self.code, frames, True)
        self.loads.now, self.threads.modules = [module], {module.id}

    def unload(self) -> None:
        self.loads.now, self.threads.modules = [], set()

    def give_to_another(self) -> None:
        self.ram.write(self.code.start, OTHER * (len(self.own) // len(OTHER)))


@pytest.fixture
def guest(image: Image) -> Guest:
    return Guest(image)


@pytest.mark.parametrize("via", ["auto", "trap"])
@pytest.mark.parametrize("reused", [False, True])
def test_it_is_named_and_gives_its_memory_back(guest: Guest, via: str, reused: bool) -> None:
    own, *mine = guest.apply("leaf0", "leaf3", "leaf4", via=via)
    (above,) = guest.apply("leaf3", via=via)
    assert guest.states == dict.fromkeys((own, *mine, above), "active")
    assert [record.module for record in guest.records] == [None, "leafy", "leafy", "leafy"]
    guest.unload()
    if reused:
        guest.give_to_another()
    assert guest.states == {own: "active", **dict.fromkeys((*mine, above), "unloaded")}
    found = guest.verify()
    inside = range(guest.code.start, guest.code.end)  # where the file has text here, unlike of real modules
    assert set(found.mismatched) <= {*inside}
    assert found.patched == 1
    assert [(row.id, row.module) for row in found.unloaded] == [(one, "leafy") for one in (*mine, above)]
    memory, used = guest.ram.read(guest.code.start, len(guest.own)), guest.arena.used()
    done = guest.remove(above, *mine)
    assert [str(row.state) for row in done.patches] == ["removed"] * 3
    assert guest.ram.read(guest.code.start, len(guest.own)) == memory
    assert guest.arena.used() < used
    assert guest.states == {own: "active"}
    guest.remove()
    assert guest.arena.used() == 0
    assert guest.header.hook is None


@pytest.mark.parametrize("frames", [1, 2])  # the same pages, or others
def test_loaded_again_it_is_another(guest: Guest, frames: int) -> None:
    old = [*guest.apply("leaf3", "leaf4"), *guest.apply("leaf3")]
    guest.unload()
    guest.load(frames)
    assert guest.states == dict.fromkeys(old, "unloaded")
    (new,) = guest.apply("leaf3")
    assert guest.states == {**dict.fromkeys(old, "unloaded"), new: "active"}
    assert guest.passes("leaf3") == [new]
    word = guest.word("leaf3")
    guest.remove(*old)
    assert guest.word("leaf3") == word
    assert guest.states == {new: "active"}
    guest.remove(new)
    assert guest.ram.read(guest.code.start, len(guest.own)) == guest.own


def test_unloaded_between_plan_and_stop(guest: Guest) -> None:
    planned, _ = guest.planned(["leaf3", "leaf0"])
    guest.machine.at_stop = guest.unload
    before = guest.memory()
    with pytest.raises(Outdated, match="leafy"):
        guest.client.apply(guest.header, planned, guest.text.hook)
    assert guest.memory() == before
    assert guest.records == []


def test_unloaded_between_a_removals_plan_and_its_stop(guest: Guest) -> None:
    (mine,) = guest.apply("leaf3")
    basis = guest.arena.basis()

    def reuse() -> None:
        guest.unload()
        guest.give_to_another()

    guest.machine.at_stop = reuse
    with pytest.raises(Outdated):
        take_out(guest.client, guest.header, basis, [mine])
    assert guest.ram.read(guest.code.start, len(OTHER)) == OTHER
    assert guest.remove(mine).patches[0].state == "removed"
    assert guest.ram.read(guest.code.start, len(OTHER)) == OTHER


def test_a_cut_off_apply_is_no_unload(guest: Guest) -> None:
    (mine,) = guest.apply("leaf3")
    (record,) = guest.records
    guest.ram.put(guest.arena.slot(record.slot), layout.State.PENDING)  # as if the splice was not yet written
    guest.ram.put(record.site_physical, record.original)
    assert guest.states == {mine: "unfinished"}
    guest.ram.put(record.site_physical, 0x6000_0001)
    assert guest.states == {mine: "damaged"}


def test_modules_are_numbered(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "MODULES", 3)
    for frames in range(1, layout.MODULES + 1):
        guest.load(frames)
        guest.apply("leaf3")
    guest.load(0)
    with pytest.raises(Refused, match="3 modules") as refused:
        guest.apply("leaf3")
    assert refused.value.rule == "memory"
    guest.apply("leaf0")  # the kernel itself needs none
    guest.remove(2)
    guest.apply("leaf3")
    assert guest.states[5] == "active"
    assert {record.module for record in guest.records} == {"leafy", None}
