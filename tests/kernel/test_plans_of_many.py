"""Plans made many at a time are those made one by one: thousands of sites of both kernels, byte by byte."""

from __future__ import annotations

import random

import pytest

from kgdbpatch.image import Image
from kgdbpatch.kernel import catalog, offline, planner
from kgdbpatch.patch.request import PatchRequest

pytestmark = pytest.mark.long

SITES = 2500  # of each kernel: first instructions of functions, and any others


def _sites(image: Image) -> list[int]:
    chance, spans = random.Random(12), image.functions.spans()
    starts = chance.sample(spans, min(len(spans), SITES // 2))
    others = [start + 4 * chance.randrange(size // 4) for start, size in chance.choices(spans, k=SITES // 2)]
    return [*dict.fromkeys([*(start for start, _ in starts), *others])]


@pytest.mark.parametrize(
    ("profile", "force"),
    [("darwin", False), ("darwin", True), pytest.param("linux", False, marks=pytest.mark.linux)],
)
def test_plans(profile: str, force: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.load(catalog.build_image(profile))
    sites = _sites(image)

    def plans() -> tuple[list[object], list[object]]:
        made = offline.planner(image, force=force)
        payload = made.payload(PatchRequest(count=True))
        planned, refused = made.plan_sites((site, payload) for site in sites)
        told = [(one.rule, str(one), one.address, one.nearest) for one in refused]
        return [*planned], [*told]

    together = plans()
    monkeypatch.setattr(planner, "MANY", len(sites))
    assert plans() == together
    assert len(together[0]) > len(sites) / 2
    assert together[1]
