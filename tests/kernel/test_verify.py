"""`RunningText` on RAM alone: the text without its patches, and every word that is not as it should be."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from analysis.code import needs_as

from kgdbpatch.cpu.ppc6xx import Ppc6xx
from kgdbpatch.image import Image
from kgdbpatch.patch.rewritten import FEATURE, Rewritten
from kgdbpatch.personality.bare import Bare

from .tiny import Far, Near, Tiny

pytestmark = needs_as
SITES = ("work+0xc", "leaf0", "leaf1", "leaf2")
VIAS = [(Near, "auto"), (Far, "auto"), (Near, "trap"), (Far, "trap"), (Far, "tails")]
ways = pytest.mark.parametrize(("system", "via"), VIAS)


@ways
def test_patches_are_seen_through(image: Image, system: type[Bare], via: str) -> None:
    tiny = Tiny(image, system())
    tiny.apply(*SITES, via=via)
    tiny.apply(SITES[0], via=via)
    for section in image.code_sections():
        own = image.words(section)
        assert tiny.text.words(section.address, own.size).tolist() == own.tolist()
        raw = tiny.text.raw_words(section.address, own.size).tolist()
        assert raw != own.tolist() or (section.name == ".vectors" and via == "auto")
    verified = tiny.verify()
    assert (verified.ok, verified.patched, verified.mismatched) == (True, len(SITES), ())


@ways
def test_every_word_is_judged(image: Image, system: type[Bare], via: str) -> None:
    tiny = Tiny(image, system())
    tiny.apply(*SITES, via=via)
    _, text = image.code_sections()
    judged = [*range(text.address, text.end, 4)]
    judged += [vector + offset for vector in range(0x100, 0x1700, 0x100) for offset in (0, 4, 0x80, 0xFC)]
    hook = tiny.header.hook
    code = {} if hook is None else Ppc6xx().hook_words(hook)
    kept = () if hook is None else set(hook.span) - code.keys()
    places = {at: at for at in (*judged, *code) if at not in kept}
    if via == "tails":  # those are their patches'
        boards = tiny.arena.tail_words(tiny.arena.table().raw)
        owners = [record.site for record in tiny.records for _ in range(0, 16 * record.springboard_slots, 4)]
        places |= dict(zip(boards, owners, strict=True))
    for at, told in places.items():
        word = tiny.ram.word(at)
        tiny.ram.put(at, word ^ 0x0004_0000)
        verified = tiny.verify()
        assert (verified.ok, verified.mismatched) == (False, (told,)), hex(at)
        tiny.ram.put(at, word)
    assert tiny.verify().ok


@ways
def test_every_word_of_a_body_is_its_patchs(image: Image, system: type[Bare], via: str) -> None:
    tiny = Tiny(image, system())
    tiny.apply(*SITES, via=via)
    for record in tiny.records:
        start = tiny.arena.inside(record.body)
        for at in range(start, start + record.constant_size, 4):
            word = tiny.ram.word(at)
            tiny.ram.put(at, word ^ 1)
            assert tiny.verify().mismatched == (record.site,)
            tiny.ram.put(at, word)
    assert tiny.verify().ok


def test_what_differed_from_the_start_is_no_mismatch_till_it_changes(image: Image) -> None:
    at = image.lookup("leaf9")
    tiny = Tiny(image, Near())
    tiny.ram.put(at, 0x6000_0000)
    tiny.client.install(tiny.text.arena, image.sha256, tiny.text.differences())
    assert tiny.header.baseline == {at: 0x6000_0000}
    assert tiny.verify().ok
    tiny.ram.put(at, int(image.words(image.code_sections()[1])[(at - 0x2000) // 4]))
    assert tiny.verify().mismatched == (at,)


class Rewriting(Near):
    """A kernel that writes leaf8's first word itself."""

    def rewritten(self, image: Image) -> Mapping[int, Rewritten]:
        return {image.lookup("leaf8"): Rewritten(FEATURE, "a table")}


def test_what_the_kernel_itself_rewrites_is_told_as_that(image: Image) -> None:
    tiny = Tiny(image, Rewriting())
    at = image.lookup("leaf8")
    tiny.ram.put(at, 0x6000_0000)
    verified = tiny.verify()
    assert (verified.ok, verified.mismatched) == (True, ())
    assert [(change.address, change.symbol) for change in verified.kernel_changes] == [(at, "leaf8")]
    tiny.ram.put(at + 4, 0x6000_0000)
    assert tiny.verify().mismatched == (at + 4,)


def test_a_damaged_patch_is_one_mismatch(image: Image) -> None:
    tiny = Tiny(image, Near())
    tiny.apply(*SITES)
    tiny.ram.put(image.lookup("leaf0"), 0x6000_0000)
    verified = tiny.verify()
    assert (verified.ok, verified.patched, verified.mismatched) == (False, 3, (image.lookup("leaf0"),))
    tiny.ram.put(image.lookup("leaf0"), int(tiny.text.words(image.lookup("leaf1"), 1)[0]))
    assert not tiny.verify().ok


def test_layers_whose_site_has_the_kernels_own_word_again_are_a_mismatch(image: Image) -> None:
    """The text is as without patches, but the newest one was neither taken out nor cut off."""
    tiny = Tiny(image, Near())
    own = tiny.word("leaf0")
    tiny.apply("leaf0")
    tiny.apply("leaf0")
    tiny.ram.put(image.lookup("leaf0"), own)
    verified = tiny.verify()
    assert (verified.ok, verified.patched, verified.mismatched) == (False, 0, (image.lookup("leaf0"),))


@pytest.mark.parametrize(("changes", "judged"), [(2, True), (1000, False)])
def test_patches_that_come_and_go_meanwhile(
    image: Image, monkeypatch: pytest.MonkeyPatch, changes: int, judged: bool
) -> None:
    """Table and text are read one after the other: they must be of one moment, or nothing is said."""
    tiny, left = Tiny(image, Near()), [changes]
    compare = tiny.text.differences

    def differences() -> dict[int, int]:
        if left[0]:
            left[0] -= 1
            if tiny.states:
                tiny.remove()
            else:
                tiny.apply("leaf0")
        return compare()

    monkeypatch.setattr(tiny.text, "differences", differences)
    found = tiny.text.verify()
    assert (found is not None and found.ok) is judged
    assert (found is None) is not judged


def test_without_a_component_nothing_is_said(image: Image) -> None:
    tiny = Tiny(image, Near())
    tiny.ram.write(tiny.text.arena.physical, bytes(8))
    assert (tiny.text.header(), tiny.text.verify()) == (None, None)
