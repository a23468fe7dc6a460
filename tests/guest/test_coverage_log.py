"""Coverage of a whole kernel against QEMU's own log of what it executed: difference 0."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.hit import ICOUNT
from kgdbpatch.coverage.report import NOT_WATCHED, function_rows
from kgdbpatch.kernel import Kernel
from kgdbpatch.vm.qemu import Qemu
from kgdbpatch.vm.registers import GRegisters

from .test_exact_counts import Executed, beats, boot
from .work import empty

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

ENOUGH = {"darwin": 3_000_000, "linux": 3_000_000}  # instructions that are logged
RAN = {"darwin": 500, "linux": 3000}
TRANSLATED = 0x20  # MSR[IR]


def halt(kernel: Kernel) -> None:
    """Pause the guest where no trap is on its way."""
    kernel.pause()
    with kernel.stopped() as session:
        while not GRegisters(session.read_all())["msr"] & TRANSLATED:
            session.step()


@pytest.mark.parametrize("profile", ["darwin", pytest.param("linux", marks=pytest.mark.linux)])
def test_blocks_are_what_qemu_executed(profile: str, tmp_path: Path) -> None:
    with boot(profile, "coverage", ICOUNT) as kernel:  # its time does not go on faster than it runs
        compare(kernel, profile, tmp_path)


def compare(kernel: Kernel, profile: str, tmp_path: Path) -> None:
    """Compare what ran with what QEMU logs meanwhile."""
    qemu = Qemu.attach(kernel.name)
    kernel.coverage.start()
    halt(kernel)
    kernel.coverage.reset()
    with Executed(qemu, tmp_path / "executed", ENOUGH[profile]) as executed:
        kernel.resume()
        reached = executed.reached.wait(400)
        halt(kernel)
        run = kernel.coverage.run()
    kernel.resume()
    assert reached, f"only {executed.lines} instructions were logged"
    sites, ran = run.site[run.watched].tolist(), {*run.site[run.ran].tolist()}
    logged = {site for site in sites if executed.at(site)}
    print(f"\n{profile}: {len(sites)} blocks watched, {len(ran)} ran, {executed.lines} instructions logged")
    names = kernel.image.symbolize
    assert ({names(at) for at in logged - ran}, {names(at) for at in ran - logged}) == (set(), set())
    assert len(ran) > RAN[profile]
    states = {one.function: one.state for one in function_rows(run, kernel.coverage.functions())}
    # it reads SPRG0, in which a register of what was interrupted is, and into which a trap's vector writes
    assert states.get("DataAccess_virt", NOT_WATCHED) == NOT_WATCHED
    assert kernel.verify().ok
    kernel.coverage.stop()
    beats(kernel, 1)
    empty(kernel)
