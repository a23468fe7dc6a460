"""What is remembered of a kernel's code is what was found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kgdbpatch.image import Image
from kgdbpatch.kernel import catalog, offline, remembered
from kgdbpatch.personality import detect


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KGDBPATCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "analysis"


@pytest.mark.parametrize("profile", ["darwin", "linux"])
def test_rules_and_sites(profile: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as usual:
        usual.delenv("KGDBPATCH_CACHE")
        image = Image.load(catalog.build_image(profile))
    system = detect(image)
    found = (
        system.exceptional_edges(image),
        system.rewritten_edges(image),
        system.rewritten_reads(image),
        system.rewritten(image),
        system.fault_sites(image),
    )
    assert remembered.rules(system, image) == found
    first = offline.site_checker(image)._index
    entries = sorted(cache.iterdir())
    assert len(entries) == 2
    assert remembered.rules(system, image) == found
    again = offline.site_checker(image)._index
    assert first is not None
    assert again is not None
    assert sorted(cache.iterdir()) == entries
    assert first.arrays.keys() == again.arrays.keys()
    for name, array in first.arrays.items():
        assert array.dtype == again.arrays[name].dtype
        assert np.array_equal(array, again.arrays[name])


def test_of_other_functions_other_rules_are_remembered(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as usual:
        usual.delenv("KGDBPATCH_CACHE")
        image = Image.load(catalog.build_image("darwin"))
    other = image.with_guessed([(image.code_sections()[0].address, 4)])
    for number, one in enumerate((image, other, image), 1):
        remembered.rules(detect(one), one)
        assert len(list(cache.iterdir())) == min(number, 2)
