"""What is remembered of a kernel's code is what was found."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kgdbpatch.analysis.liveness_index import LivenessIndex
from kgdbpatch.image import Image
from kgdbpatch.kernel import catalog, offline, remembered
from kgdbpatch.kernel.remembered import off_limits
from kgdbpatch.patch.site_checker import SiteChecker
from kgdbpatch.personality import detect


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KGDBPATCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "analysis"


def _liveness(image: Image) -> LivenessIndex:
    """Return what a site checker is given of a kernel's code."""
    found = list[LivenessIndex]()

    def analysis(*code: Any) -> LivenessIndex:
        found.append(remembered.liveness_index(*code))
        return found[-1]

    limits = off_limits(detect(image), image)
    site_checker = SiteChecker(image, limits, partial(offline.words, image), analysis)
    site_checker.live(image.functions[0].address)
    return found[0]


def _facts(image: Image) -> tuple[Any, ...]:
    limits = off_limits(detect(image), image)
    edges = limits.implicit
    return edges.exceptional, edges.rewritten, limits.reads, limits.rewritten, limits.fault_sites


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
    assert _facts(image) == found
    first = _liveness(image)
    entries = sorted(cache.iterdir())
    assert len(entries) == 2
    assert _facts(image) == found
    again = _liveness(image)
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
        _facts(one)
        assert len(list(cache.iterdir())) == min(number, 2)
