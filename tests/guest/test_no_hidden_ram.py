"""A Linux that somebody started with nothing hidden: its own allocator gives the memory, and gets it back."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kgdbpatch.component import layout
from kgdbpatch.guests.options import BootOptions, ordered
from kgdbpatch.image import Image
from kgdbpatch.kernel import Kernel, catalog
from kgdbpatch.kernel.attaching import attach, detach
from kgdbpatch.kernel.guest_doctor import examine
from kgdbpatch.vm import runtime

from .by_hand import ByHand, started
from .dying import dies

pytestmark = [pytest.mark.long, pytest.mark.linux]
LINEAR = 0xC000_0000  # what an address is more than the physical one
BLOCK = 1024  # pages of 4 KiB
OTHERS = 500  # pages that the guest's own workload may take or give meanwhile, or a CPU keep at hand
NAME = "lent"


@pytest.fixture(
    scope="module",
    params=[
        "linux g3beige 750 256",
        *(
            pytest.param(other, marks=pytest.mark.soak)
            for other in (
                "linux-6.12-pmac mac99 7400 1024",
                "linux-440 bamboo 440epb 256",
                "linux-405 ref405ep 405ep 128",
                "linux-e500 ppce500 e500v2 320",
                "linux-e500-smp ppce500 e500v2 320",
            )
        ),
    ],
)
def guest(request: pytest.FixtureRequest) -> Iterator[ByHand]:
    """A guest that naps when it has nothing to do (but two CPUs); one's linear map cannot hold all memory."""
    name, board, cpu, size = request.param.split()
    recipe = ordered(name, BootOptions(machine=board, cpu=cpu, memory=int(size), announced=int(size)))
    given = recipe.boot.command_line.split()
    less = ("mem=", "powersave=")[: 1 if recipe.smp > 1 else 2]
    words = [word for word in given if not word.startswith(less)]
    with started(replace(recipe, boot=replace(recipe.boot, command_line=" ".join(words)))) as found:
        yield found


class Seen:
    """What the guest's memory shows to somebody who needs no debugger."""

    def __init__(self, guest: ByHand) -> None:
        self._guest, self._image = guest, Image.load(guest.kernel)

    def _at(self, name: str) -> int:
        return self._image.lookup(name) - LINEAR

    def look(self) -> tuple[bytes, int]:
        """Return the kernel's text (but for a variable of a 405's in it), and how many pages are free."""
        text = bytearray(self._guest.memory(0, self._at("_etext")))
        for symbol in self._image.symbols.last(("tlb_4xx_index",)).values():
            text[symbol.address - LINEAR : symbol.address - LINEAR + 4] = bytes(4)
        return bytes(text), self.free

    @property
    def free(self) -> int:
        """How many pages are free."""
        return int.from_bytes(self._guest.memory(self._at("vm_zone_stat"), 4), "big")


def begin(guest: ByHand, file: bool = True) -> Kernel:
    kernel = attach(NAME, guest.gdb, guest.kernel if file else None, console=guest.console)
    assert kernel.unpatchable is None
    return kernel


def works(guest: ByHand) -> None:
    """Assert that the guest goes on and finds nothing wrong with itself."""
    told = re.compile(r"selfcheck: \d+ ok, 0 bad")
    console = Path(guest.console)
    since = console.stat().st_size
    with Kernel.attach(NAME) as kernel:
        kernel.log.wait(told.pattern, since=kernel.log.position(), deadline=60)
    said = console.read_bytes()[since:].decode(errors="replace")
    assert not re.search(r"BUG|WARNING|Oops|allocation failure|[1-9]\d* bad", said), said


def test_it_lends_memory_for_patches_and_gets_it_back(guest: ByHand, examples: Path) -> None:
    seen = Seen(guest)
    text, free = seen.look()
    with begin(guest) as kernel:
        arena = kernel.header.arena
        assert (arena.linear, arena.size) == (arena.virtual - arena.physical == LINEAR, BLOCK * 4096)
        assert abs(free - BLOCK - seen.free) < OTHERS
        position = kernel.log.position()
        kernel.patch("udp_sendmsg", c=examples / "udp_probe.c")
        assert "KernMonitor" in kernel.log.wait(r"length: \d+ \| 3$", since=position, deadline=60).message
        assert kernel.patch("__sys_sendto", count=True, via="trap").entry == "trap"
        functions = [one.address for one in kernel.functions("*") if one.section == ".text"][:1000]
        assert len(kernel.patch_all(functions, count=True).patches) > 900
        assert kernel.verify().ok
        assert kernel.call("int_sqrt", 1764) == 42
        told = next(trait for trait in examine(NAME) if trait.topic == "patches")
        assert told.works
        assert re.search(r"the kernel's own allocator \(4 MiB by \w*get_free_pages\w*\)", told.found)
    works(guest)
    done = detach(NAME)
    assert (done.restored, done.removed > 900) == (True, True)
    after, now_free = seen.look()
    assert after == text
    assert abs(free - now_free) < OTHERS


@pytest.mark.parametrize("rows", [0, 3])
def test_a_client_killed_while_the_kernel_lends(guest: ByHand, rows: int) -> None:
    """The next one finds what was lent, and gives it back; so does `detach`."""
    seen = Seen(guest)
    text, free = seen.look()
    assert dies(lambda: begin(guest), rows, since=lambda: free - seen.free > BLOCK - OTHERS)
    assert free - seen.free > BLOCK - OTHERS
    assert detach(NAME).restored
    after, now_free = seen.look()
    assert after == text
    assert abs(free - now_free) < OTHERS


@pytest.mark.parametrize("rows", [0, pytest.param(3, marks=pytest.mark.soak)])
def test_what_is_lent_is_found_without_any_file(guest: ByHand, rows: int) -> None:
    """The dead one's record is lost, and the kernel is read from memory, where his anchor stands in it."""
    seen = Seen(guest)
    text, free = seen.look()
    assert dies(lambda: begin(guest), rows, since=lambda: free - seen.free > BLOCK - OTHERS)
    shutil.rmtree(runtime.record(NAME).directory)
    with begin(guest, file=False) as kernel:
        assert abs(free - BLOCK - seen.free) < OTHERS, "it was asked for a second time"
        assert kernel.verify().ok
    assert detach(NAME).restored
    after, now_free = seen.look()
    assert after == text
    assert abs(free - now_free) < OTHERS


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_killed_at_every_row_of_attaching(guest: ByHand) -> None:
    seen, rows, lent = Seen(guest), 1, 0
    text, free = seen.look()
    while dies(lambda: begin(guest), rows):
        lent += free - seen.free > BLOCK - OTHERS
        if NAME in catalog.names():
            assert detach(NAME).restored
        after, now_free = seen.look()
        assert after == text, rows
        assert abs(free - now_free) < OTHERS, rows
        rows += 3
    assert lent > 5
    works(guest)
    detach(NAME)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("debugger_too", [False, True])
def test_killed_at_every_row_of_detaching(guest: ByHand, debugger_too: bool) -> None:
    seen, rows = Seen(guest), int(debugger_too)
    text, free = seen.look()
    while True:
        begin(guest).close()
        killed = dies(lambda: detach(NAME), rows, debugger_too=debugger_too)
        if NAME in catalog.names():
            assert detach(NAME).restored, rows
        after, now_free = seen.look()
        assert after == text, rows
        assert abs(free - now_free) < OTHERS, rows
        if not killed:
            break
        rows += 3
    begin(guest).close()
    works(guest)
    detach(NAME)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_fifty_rounds_leave_nothing(guest: ByHand) -> None:
    seen = Seen(guest)
    text, free = seen.look()
    for _ in range(50):
        with begin(guest) as kernel:
            kernel.patch_all([one.address for one in kernel.image.functions[:100]], count=True, force=True)
        assert detach(NAME).restored
    after, now_free = seen.look()
    assert after == text
    assert abs(free - now_free) < OTHERS, "50 blocks would be 51,200 pages"
    assert layout.records(BLOCK * 4096) >= 100
