"""Every way that a resolved jump table is taken is one that the analysis knows of."""

from __future__ import annotations

import pytest

from kgdbpatch import catalog
from kgdbpatch.errors import Refused
from kgdbpatch.kernel import Kernel

_LONGEST = 64  # targets compared one by one; the tables of the BPF interpreter have more


def _judge(targets: tuple[int, ...]) -> str:
    """Return code that traps when CTR is none of the targets."""
    lines = ["mfctr r4"]
    for target in targets:
        lines += [f"lis r5,{target >> 16:#x}", f"ori r5,r5,{target & 0xFFFF:#x}", "cmpw r4,r5", "beq 1f"]
    return "\n".join([*lines, "trap", "1: nop"]) + "\n"


def _watch(kernel: Kernel, most: int, rounds: int) -> tuple[int, int, int]:
    """Watch ``most`` tables under the workload; return how many were watched, taken, and how often."""
    tables = catalog.whole(kernel.image).indirect.tables
    watched = 0
    for site, targets in sorted(tables.items()):
        if len(targets) > _LONGEST:
            continue
        try:
            kernel.patch(site, asm=_judge(targets), count=True)
        except Refused:
            continue
        watched += 1
        if watched == most:
            break
    start = kernel.log.position()
    for _ in range(rounds):
        line = kernel.log.wait("selfcheck", deadline=120, since=kernel.log.position())
        assert line.message.rstrip().endswith(" 0 bad")
    assert not [line for line in kernel.log.lines(start) if "Oops" in line.message or "panic" in line.message]
    hits = [patch.hits or 0 for patch in kernel.list()]
    kernel.remove_all()
    assert kernel.verify().ok
    return watched, sum(1 for count in hits if count), sum(hits)


def test_targets_of_darwin(kernel: Kernel) -> None:
    watched, taken, hits = _watch(kernel, 100, 3)
    assert watched == taken == 2
    assert hits > 100


def test_a_target_outside_is_noticed(kernel: Kernel) -> None:
    """The judge's own judge: with one target held back the kernel does not go on."""
    tables = catalog.whole(kernel.image).indirect.tables
    site = next(site for site in tables if kernel.image.symbolize(site).startswith("___doprnt"))
    mark = kernel.log.position()
    kernel.patch(site, asm=_judge(tables[site][:1]))
    assert "trap" in kernel.log.wait("panic|trap", deadline=60, since=mark).message


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.linux
@pytest.mark.kernel("linux")
def test_targets_of_linux(kernel: Kernel) -> None:
    watched, taken, hits = _watch(kernel, 1000, 10)
    print(f"{watched} jump tables watched, {taken} of them taken {hits} times")
    assert watched > 100
    assert taken > 5
