"""Coverage of a running kernel: blocks that ran, blocks that did not, and those of which nothing is known."""

from __future__ import annotations

import time

import numpy as np
import pytest

from kgdbpatch.component.applying import Application
from kgdbpatch.coverage.report import NOT_WATCHED, function_rows
from kgdbpatch.errors import DeadKernel, Misuse
from kgdbpatch.kernel import Kernel

from .kills import kill
from .work import beat, empty

GUESTS = [
    pytest.param("work_*", marks=pytest.mark.kernel("darwin"), id="darwin"),
    pytest.param("*read*", marks=[pytest.mark.kernel("linux"), pytest.mark.linux], id="linux"),
]
BUSY = {"darwin": "run_netisr", "linux": "system_call_exception"}


def until(kernel: Kernel, ran: int, deadline: float = 60.0) -> None:
    """Wait until so many blocks have run."""
    end = time.monotonic() + deadline
    while int(kernel.coverage.run().ran.sum()) < ran:
        assert time.monotonic() < end
        time.sleep(0.1)


class Dead(BaseException):
    """The client is."""


@pytest.mark.kernel("darwin")
def test_a_start_that_was_cut_off_before_its_splice_is_begun_anew(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No trap is put in as long as nothing would take it out."""
    chosen = [kernel.resolve(BUSY[kernel.profile]), kernel.resolve("exception_handler")]

    def die(*_: object) -> None:
        raise Dead

    with monkeypatch.context() as cut:
        cut.setattr(Application, "splice", die)
        with pytest.raises(Dead):
            kernel.coverage.start(chosen)
    assert kernel.coverage.on
    with pytest.raises(Misuse, match="was cut off: 'coverage reset' begins anew"):
        kernel.coverage.run()
    kernel.coverage.reset()
    beat(kernel)
    assert kernel.coverage.run().ran.any()
    assert kernel.verify().ok
    kernel.coverage.stop()
    empty(kernel)


@pytest.mark.parametrize("pattern", GUESTS)
def test_some_functions(kernel: Kernel, pattern: str) -> None:
    chosen = [one.address for one in kernel.image.matching(pattern)][:300]
    chosen.append(kernel.resolve(BUSY[kernel.profile]))
    run = kernel.coverage.start(chosen)
    blocks = int(run.watched.sum())
    assert blocks > len(chosen)
    assert sum(run.unseen().values()) == len(run.start) - blocks
    assert run.unseen()["not chosen"] > blocks
    beat(kernel)
    rows = {one.address: one for one in function_rows(kernel.coverage.run(), kernel.coverage.functions())}
    assert rows[chosen[-1]].ran > 0
    assert sum(one.watched for one in rows.values()) <= blocks
    assert {one.state for at, one in rows.items() if at not in chosen} == {NOT_WATCHED}
    verified = kernel.verify()
    assert (verified.ok, verified.patched) == (True, 1)
    (row,) = kernel.patch_table()
    assert row.coverage is not None
    assert row.coverage.endswith(f" of {blocks} blocks run")
    with pytest.raises(Misuse, match="has its coverage taken already"):
        kernel.coverage.start()

    with kernel.patch(chosen[-1], count=True) as patch:  # others go on meanwhile
        beat(kernel)
        assert patch.hits
        assert kernel.verify().ok
        kernel.coverage.reset()
        assert kernel.coverage.run().unseen()["patched"] == 1
    again = kernel.coverage.reset()
    assert "patched" not in again.unseen()
    with kernel.patch(chosen[-1], asm="nop", count=True, via="trap") as patch:  # both kinds of traps
        beat(kernel)
        assert patch.hits
        assert kernel.verify().ok
        kernel.coverage.stop()
        beat(kernel)
        kernel.coverage.start(chosen)
        beat(kernel)
        assert kernel.coverage.run().ran.any()
        assert kernel.verify().ok
    kernel.coverage.reset()
    until(kernel, 5)
    kernel.coverage.stop()
    assert not kernel.coverage.on
    verified = kernel.verify()
    assert (verified.ok, verified.patched) == (True, 0)
    with pytest.raises(Misuse, match="no coverage is taken"):
        kernel.coverage.run()
    beat(kernel)
    empty(kernel)


@pytest.mark.panics
def test_what_ran_before_the_end(kernel: Kernel) -> None:
    kernel.coverage.start([one.address for one in kernel.image.matching("*panic*")])
    kill(kernel, "panic")
    kernel.qemu.console.wait("panic", 60)
    until(kernel, 1)
    with pytest.raises(DeadKernel):
        kernel.coverage.reset()


def test_counted(kernel: Kernel) -> None:
    chosen = [one.address for one in kernel.image.matching("work_*")]
    run = kernel.coverage.start(chosen, exact=True)
    blocks = int(run.watched.sum())
    assert run.exact
    beat(kernel, 2)
    run = kernel.coverage.run()
    assert run.hits.max() > 1
    assert int(run.watched.sum()) == blocks
    (row,) = kernel.patch_table()
    assert row.coverage == f"{int(kernel.coverage.run().ran.sum())} of {blocks} blocks run"
    kernel.pause()
    kernel.coverage.reset()
    assert not kernel.coverage.run().ran.any()
    kernel.resume()
    until(kernel, 5)
    assert kernel.verify().ok
    assert len(kernel.take_out([row.id]).patches) == 1  # all of them
    assert not kernel.coverage.on
    empty(kernel)


def test_blocks_stay_what_they_are_while_paused(kernel: Kernel) -> None:
    kernel.pause()
    kernel.coverage.start()
    assert not kernel.coverage.run().ran.any()
    with kernel.patch(BUSY["darwin"], count=True):
        assert kernel.coverage.run().unseen()["patched"] == 1
    assert not kernel.coverage.run().ran.any()
    assert kernel.verify().ok
    kernel.resume()
    until(kernel, 500)
    kernel.pause()
    before = kernel.coverage.run()
    kernel.coverage.reset()
    kernel.resume()
    until(kernel, 500)
    assert np.array_equal(before.start, kernel.coverage.run().start)
    kernel.remove_all()
    assert kernel.verify().ok
    assert kernel.patches == []
    beat(kernel)
