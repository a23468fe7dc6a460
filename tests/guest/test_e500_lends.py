"""A kernel on two e500 lends memory when there is no component yet: seen by no CPU before, or afterwards."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator

import pytest

from kgdbpatch.component.borrow import Borrower
from kgdbpatch.component.kernel_calls import Gate
from kgdbpatch.cpu.booke import E500
from kgdbpatch.cpu.kernel_call import KernelCaller
from kgdbpatch.kernel import Kernel
from kgdbpatch.personality.base import KernelCall, Window

from .dying import dies
from .own_e500 import booted, goes_on, program, wired, word

BINARY = "qemu-system-ppc64"  # it runs them at the same time
pytestmark = pytest.mark.skipif(shutil.which(BINARY) is None, reason=f"{BINARY} is not installed")
MIB = 1 << 20
LINEAR = 0xC000_0000
BLOCK = LINEAR + 32 * MIB
IN_THE_OTHER_SPACE = re.compile(r"^0x\w+ 0x\w+ +\d+[KMG] \d+ +1 ", re.MULTILINE)


class Died(BaseException):
    """The client is dead."""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with Kernel.boot(booted("lending-e500", program(tmp_path_factory.mktemp("own")), 2)) as kernel:
        borrower(kernel).hide_ram()
        yield kernel


def physical(address: int) -> int:
    return address - LINEAR


def borrower(kernel: Kernel) -> Borrower:
    unused = kernel.image.lookup("unused")
    return Borrower(
        kernel.qemu,
        lambda: kernel.debugger,
        E500(),
        lambda: [Gate(unused, physical(unused))],
        physical,
        lambda: 1 << 32,  # bytes of a stack: how much is in use is known here
        physical,
    )


def place(kernel: Kernel) -> Window:
    step = kernel["step"]
    return Window(step.address, step.end)


def call(kernel: Kernel, name: str) -> KernelCall:
    return KernelCall(kernel.image.lookup(name), (BLOCK,))


def unused(kernel: Kernel) -> bytes:
    return kernel.qemu.ram.read(physical(kernel.image.lookup("unused")), 64)


def test_it_is_lent_and_given_back(own: Kernel) -> None:
    before = wired(own, 2)
    assert not any(map(IN_THE_OTHER_SPACE.search, before))
    with own.qemu.exclusive(10):
        found = borrower(own).borrow(call(own, "give"), 2 * MIB, place(own), 30)
        assert found is not None
        assert (found.memory, word(own, "lent")) == (BLOCK, BLOCK)
        assert borrower(own).settled() == found
        assert wired(own, 2) == before
        goes_on(own, 2)
        borrower(own).give_back(found, call(own, "take"), place(own), 30)
    assert word(own, "lent") == 0
    assert not any(unused(own))
    assert wired(own, 2) == before
    goes_on(own, 2)
    with own.patch("step", count=True) as patch:
        goes_on(own, 2)
        assert patch.hits
    assert "own: wrong" not in "".join(own.qemu.console.lines())


def test_what_a_client_has_shown_that_died_is_hidden(own: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    borrower(own).hide_ram()
    before = wired(own, 2)

    def dies(*_: object) -> None:
        raise Died

    with own.qemu.exclusive(10):
        with monkeypatch.context() as dying:
            dying.setattr(KernelCaller, "note_call", dies)
            with pytest.raises(Died):
                borrower(own).borrow(call(own, "give"), 2 * MIB, place(own), 30)
        assert all(map(IN_THE_OTHER_SPACE.search, wired(own, 2)))
        goes_on(own, 2)
        borrower(own).hide_ram()
    assert wired(own, 2) == before
    goes_on(own, 2)


@pytest.mark.parametrize("rows", [40, 91])
def test_a_client_killed_while_it_looks_at_the_tlb(own: Kernel, rows: int) -> None:
    """Each of the kernel's instructions that it has executed is one row with what puts the CPU back."""
    borrower(own).hide_ram()
    before = wired(own, 2)

    def client() -> None:
        with Kernel.attach(own.name) as other:
            borrower(other).borrow(call(other, "give"), 2 * MIB, place(other), 30)

    assert dies(client, rows)
    assert not any(unused(own)), "it has come too far"
    for number in range(2):
        made = word(own, "steps", number)
        until = time.monotonic() + 60
        while word(own, "steps", number) == made:
            assert time.monotonic() < until, f"CPU {number} does not go on"
    borrower(own).hide_ram()
    assert wired(own, 2) == before
