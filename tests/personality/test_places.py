"""What is asked of many places of a kernel at once is what is asked of each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image.random_parts import PLACES, SECTIONS

from kgdbpatch.errors import Misuse
from kgdbpatch.image import Image, Section, Segment
from kgdbpatch.image.contents import Contents
from kgdbpatch.personality.linux.tables import in_code, words_at


@st.composite
def _segments(draw: st.DrawFn) -> tuple[Segment, ...]:
    found = []
    for number in range(draw(st.integers(0, 3))):
        held = bytes(draw(st.lists(st.integers(0, 255), max_size=50)))
        size = len(held) + draw(st.integers(0, 9))
        found.append(Segment(f"LOAD{number}", draw(st.integers(0, 90)), size, held))
    return tuple(found)


def _image(sections: tuple[Section, ...], segments: tuple[Segment, ...]) -> Image:
    return Image(Path("vmlinux"), "elf", "", Contents(0, sections, segments, []))


@given(SECTIONS, PLACES)
def test_places_in_code(sections: tuple[Section, ...], places: list[int]) -> None:
    image = _image(sections, ())
    owners = [image.section_at(place) for place in places]
    single = [
        owner is not None and owner.executable and place % 4 == 0
        for place, owner in zip(places, owners, strict=True)
    ]
    assert in_code(image, np.array(places, np.int64)).tolist() == single


@given(_segments(), PLACES)
def test_words_at_places(segments: tuple[Segment, ...], places: list[int]) -> None:
    image = _image((), segments)
    known = dict[int, int]()
    for place in places:
        try:
            known[place] = int.from_bytes(image.read(place, 4), "big")
        except Misuse:
            continue
    assert words_at(image, np.array([*known], np.int64)).tolist() == [*known.values()]
    for place in set(places) - known.keys():
        with pytest.raises(Misuse):
            words_at(image, np.array([place], np.int64))
