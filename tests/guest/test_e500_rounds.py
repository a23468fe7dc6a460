"""100,000 patches come and go while two CPUs are inside: all is counted, nothing freed early."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

import pytest

from kgdbpatch.component import ComponentClient
from kgdbpatch.component.arena import Header
from kgdbpatch.component.stop import Stop
from kgdbpatch.cpu.booke import E500
from kgdbpatch.kernel import Kernel, Patch

from .ledger import Ledger
from .own_e500 import booted, goes_on, monitor, program, stand, wired, word

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(7200),
    pytest.mark.skipif(shutil.which("qemu-system-ppc64") is None, reason="no QEMU runs two at the same time"),
]
CPUS = range(2)
PATCHES = 100_000
ROUNDS_A_LOOK = 50  # between two looks at what each CPU has


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    recipe = booted("own-e500-rounds", program(tmp_path_factory.mktemp("own")), len(CPUS))
    with Kernel.boot(recipe) as kernel:
        goes_on(kernel, len(CPUS))
        yield kernel


def made(kernel: Kernel) -> int:
    """Return how many steps all CPUs have made, by their own count."""
    return sum(word(kernel, "steps", number) for number in CPUS)


def going_on(kernel: Kernel) -> list[int]:
    """Return where each CPU of a stopped guest goes on, and where its last exceptions came from, by QEMU."""
    found = []
    for told in monitor(kernel, "info registers", len(CPUS)):
        named = re.findall(r"\b(NIP|SRR0|CSRR0)\s+([0-9a-f]+)\b", told)
        assert {name for name, _ in named} == {"NIP", "SRR0", "CSRR0"}
        found += [int(value, 16) for _, value in named]
    return found


@pytest.fixture
def early(both: Kernel, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what is freed, from now on, while a CPU is inside, by a look at the guest that still stands."""
    collect, found = ComponentClient.collect, list[str]()

    def judged(self: ComponentClient, header: Header, stop: Stop) -> list[int]:
        held = {record.id: record for record in self.arena(header.arena).records()}
        kept = collect(self, header, stop)
        left = {record.id for record in self.arena(header.arena).records()}
        gone = [held[number] for number in held.keys() - left]
        for at in going_on(both) if gone else ():
            inside = (one.id for one in gone if one.body <= at < one.body + one.body_size)
            found.extend(f"patch {number}: 0x{at:08x}" for number in inside)
        return kept

    monkeypatch.setattr(ComponentClient, "collect", judged)
    return found


def counted(kernel: Kernel, patches: tuple[Patch, ...], number: int) -> list[int]:
    """Return each patch's hits and then the steps, all from a moment when no CPU is within a step."""
    with stand(kernel, len(CPUS), number):
        table = {row.id: row.hits or 0 for row in kernel.patch_table()}
        return [*(table[patch.id] for patch in patches), made(kernel)]


def test_100_000_patches(both: Kernel, early: list[str]) -> None:
    """Each counts what the callee counts, every change is flushed, no CPU is left in freed memory."""
    code = next(section for section in both.image.sections if section.name == ".text")
    ledger = Ledger(both, [(code.address - 0xC000_0000, len(code.data) & -4)], E500())
    sites = [at for name in ("step", "mixed") for at in range(both[name].address, both[name].end, 4)]
    mapped = wired(both, len(CPUS))
    applied, number = 0, 0
    while applied < PATCHES:
        number += 1
        via = "trap" if number % 4 == 3 else "auto"
        patches = both.patch_all(sites, count=True, via=via).patches
        assert patches
        goes_on(both, len(CPUS))
        before = counted(both, patches, 2 * number)
        goes_on(both, len(CPUS))
        after = counted(both, patches, 2 * number + 1)
        *hits, steps = (new - old for new, old in zip(after, before, strict=True))
        assert steps >= len(CPUS)
        assert hits == [steps] * len(hits), number
        assert ledger.judge() == [], number
        gone = both.remove_all()  # with both CPUs inside
        applied += len(patches)
        while both.patch_table():
            goes_on(both, len(CPUS))
            gone = both.remove_all()
        assert not gone
        assert early == [], number
        assert ledger.judge() == [], number
        if number % ROUNDS_A_LOOK == 0:
            assert wired(both, len(CPUS)) == mapped
    assert mapped[0] == mapped[1]
    assert both.verify().ok
    goes_on(both, len(CPUS))
    assert "own: wrong" not in "".join(both.qemu.console.lines())
