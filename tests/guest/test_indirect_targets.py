"""Every way that a resolved jump table is taken is one that the analysis knows of."""

from __future__ import annotations

import pytest

from kgdbpatch.errors import Refused, TargetTimeout
from kgdbpatch.kernel import Kernel, analyses


def _judge(targets: tuple[int, ...], source: str = "ctr") -> str:
    """Return code that traps when a register holds none of the targets."""
    one, other = [name for name in ("r10", "r11", "r12") if name != source][:2]
    lines = [f"mfctr {one}" if source == "ctr" else f"mr {one},{source}"]
    for target in targets:
        lines += [f"lis {other},{target >> 16:#x}", f"ori {other},{other},{target & 0xFFFF:#x}"]
        lines += [f"cmpw {one},{other}", "beq 1f"]
    return "\n".join([*lines, "trap", "1: nop"]) + "\n"


def _watch_one(kernel: Kernel, site: int, targets: tuple[int, ...]) -> bool:
    """Watch a branch where it stands or, where no patch goes, where CTR is loaded for it."""
    source = "ctr"
    for _ in range(2):
        try:
            kernel.patch(site, asm=_judge(targets, source), count=True)
        except Refused as refused:
            if source != "ctr" or refused.rule == "discarded":
                return False
        else:
            return True
        while not kernel.live(site).instruction.startswith("mtctr"):
            site -= 4
        source = kernel.live(site).instruction.split()[1]
    return False


def _watch(kernel: Kernel, most: int, rounds: int) -> tuple[int, int, int]:
    """Watch ``most`` tables for ``rounds`` checks of the workload, or until each has been taken.

    Return how many were watched, how many taken, and how often.
    """
    tables = analyses.liveness(kernel.image).indirect.tables
    watched = 0
    for site, targets in sorted(tables.items()):
        watched += _watch_one(kernel, site, targets)
        if watched == most:
            break
    start = kernel.log.position()
    for _ in range(rounds):
        line = kernel.log.wait("selfcheck", deadline=120, since=kernel.log.position())
        assert line.message.rstrip().endswith(" 0 bad")
        if all(patch.hits for patch in kernel.patches):
            break
    assert not [line for line in kernel.log.lines(start) if "Oops" in line.message or "panic" in line.message]
    hits = [patch.hits or 0 for patch in kernel.patches]
    kernel.remove_all()
    assert kernel.verify().ok
    return watched, sum(1 for count in hits if count), sum(hits)


def test_targets_of_darwin(kernel: Kernel) -> None:
    watched, taken, hits = _watch(kernel, 100, 30)
    assert watched == taken >= 2
    assert hits >= 2


def _go_on(kernel: Kernel) -> None:
    """Read the guest's lines until there are no more."""
    while True:
        kernel.log.wait("selfcheck", deadline=6, since=kernel.log.position())


@pytest.mark.soak
def test_a_target_outside_is_noticed(kernel: Kernel) -> None:
    """The judge's own judge: with one target held back the kernel does not go on."""
    tables = analyses.liveness(kernel.image).indirect.tables
    # not the table of printf, which is needed to hear of it
    site = next(site for site in tables if kernel.image.symbolize(site).startswith("_interpret"))
    assert _watch_one(kernel, site, tables[site][:1])
    with pytest.raises(TargetTimeout, match="Unresolved kernel trap"):
        _go_on(kernel)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.linux
@pytest.mark.kernel("linux")
def test_targets_of_linux(kernel: Kernel) -> None:
    watched, taken, hits = _watch(kernel, 1000, 10)
    print(f"{watched} jump tables watched, {taken} of them taken {hits} times")
    assert watched > 100
    assert taken > 5
