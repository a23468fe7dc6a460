"""Who calls a function: as many as its own counter says, from the places that counters there say."""

from __future__ import annotations

import json

import pytest

from kgdbpatch.analysis.calls_to import calls_to
from kgdbpatch.cli.main import run
from kgdbpatch.errors import Misuse, UnknownSymbol
from kgdbpatch.kernel import Kernel
from kgdbpatch.kernel.callers import Callers

from .work import beat, empty, hits

LINUX = [pytest.mark.kernel("linux"), pytest.mark.linux, pytest.mark.long]


@pytest.fixture(
    params=[
        pytest.param("strlen", marks=pytest.mark.kernel("darwin"), id="darwin"),
        pytest.param("vfs_read", marks=LINUX, id="linux"),
    ]
)
def busy(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def test_callers_are_as_counters_at_the_calls_say(kernel: Kernel, busy: str) -> None:
    """Counters that stand before count as many or more, those that came later no more."""
    sites = calls_to(kernel.image, kernel.resolve(busy))
    before, entered = kernel.patch_all(sites, count=True), kernel.patch(busy, count=True)
    with Callers(kernel, busy) as callers:
        late, after = kernel.patch(busy, count=True), kernel.patch_all(sites, count=True)
        beat(kernel, 3)
        kernel.pause()
        rows, most, least = callers.rows(), hits(entered), hits(late)
        counted = {
            patch.site: (hits(patch), next(hits(one) for one in before.patches if one.site == patch.site))
            for patch in after.patches
        }
        kernel.resume()
    total = sum(row.count for row in rows)
    assert least > 10, (least, total, most)
    assert least <= total <= most
    assert sum(row.share for row in rows) == pytest.approx(1, abs=0.01)
    assert rows == sorted(rows, key=lambda row: -row.count)
    by_site = {row.site: row for row in rows}
    for site, (few, many) in counted.items():
        if few:
            row = by_site[site]
            assert row.kind == "call"
            assert few <= row.count <= many, row
    pointers = [row for row in rows if row.site not in sites]
    assert {row.kind for row in pointers} <= {"pointer", "tail"}
    assert all((row.through is not None) == (row.kind == "tail") for row in rows)
    beat(kernel)
    empty(kernel)


def test_the_command(kernel: Kernel, busy: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["callers", kernel.name, busy, "--seconds", "1"]) == 0
    assert "+0x" in capfd.readouterr().out.splitlines()[1]
    assert run(["callers", kernel.name, busy, "--seconds", "1", "--json"]) == 0
    rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert set(rows[0]) == {"site", "symbol", "kind", "through", "count", "share", "lost"}
    assert kernel.patches == []
    assert run(["callers", kernel.name, "no_such", "--seconds", "1"]) == 2
    assert run(["callers", kernel.name, f"{busy}+4", "--seconds", "1"]) == 2
    assert run(["pause", kernel.name]) == 0
    capfd.readouterr()
    assert run(["callers", kernel.name, busy, "--seconds", "1"]) == 2
    assert f"'kgdbpatch resume {kernel.name}'" in capfd.readouterr().err
    assert run(["resume", kernel.name]) == 0
    with pytest.raises(UnknownSymbol):
        Callers(kernel, "no_such")
    with pytest.raises(Misuse, match="no function's entry"):
        Callers(kernel, f"{busy}+4")
    empty(kernel)
