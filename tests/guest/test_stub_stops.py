"""Where the kernel component is called: not where SRR0 and SRR1 are live, nor in a call left behind."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from kgdbpatch.component import layout
from kgdbpatch.component.protocol import Command
from kgdbpatch.cpu.ppc6xx import Ppc6xx, msr, stub
from kgdbpatch.kernel import Kernel
from kgdbpatch.vm.gdb import GRegisters, Session

from . import parts
from .work import beat, empty

SITE = "run_netisr"
DECREMENTER = 0x900
EE, RI = 0x8000, 0x2


def test_no_call_where_an_exception_has_just_begun(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU stopped at a vector's first instruction has its way back in SRR0 and SRR1 alone."""
    called: list[int] = []
    call = stub.STUB.call

    def watched(session: Session, arena: int, commands: Sequence[Command]) -> list[int]:
        called.append(GRegisters(session.read_all())["msr"])
        return call(session, arena, commands)

    monkeypatch.setattr(Ppc6xx, "call", staticmethod(watched))
    arena = kernel.header.arena
    for _ in range(5):
        with kernel.stopped() as session:
            registers = session.run_to(DECREMENTER, 10)
            assert not registers["msr"] & (EE | RI)
            msr.leave_exception(session)
            left = GRegisters(session.read_all())
            assert left["msr"] & RI
            state = Command(layout.Op.STATE, arena.physical + layout.STATE_OFFSET)
            watched(session, arena.physical, [state])
        kernel.patch(SITE, asm="nop").remove()
    assert called
    assert all(msr & (EE | RI) for msr in called)
    empty(kernel)
    beat(kernel)


class Died(Exception):
    pass


def test_a_call_is_finished_from_anywhere_in_it(kernel: Kernel) -> None:
    """Its debugger died behind any of its instructions, those of the way home too."""
    header = kernel.header
    at, arena = header.arena.physical, parts.arena(kernel)
    commands = [Command(layout.Op.FLUSH, at + layout.STUB_OFFSET, 64)]
    with kernel.stopped() as session:
        msr.leave_exception(session)
        before = session.read_all()
        for count in range(1000):
            flushes = arena.flush_count

            def cut(_address: int, _deadline: float, count: int = count) -> GRegisters:
                session.register("msr")  # what was put off is done with what is asked
                patched.setattr(
                    session, "write_all", lambda *_, **__: None
                )  # a dead client puts nothing back
                for _ in range(count):
                    session.step()
                raise Died

            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(session, "run_to_physical", cut)
                with pytest.raises(Died):
                    stub.STUB.call(session, at, commands)
            if not stub.STUB.inside(GRegisters(session.read_all()), at):
                break
            stub.STUB.finish(session, at)
            assert session.read_all() == before, count
            assert arena.flush_count == flushes + 2, count
    assert 60 < count < 200
    beat(kernel)
