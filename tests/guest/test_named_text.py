"""A kernel without a file: the user says where its code is, the rest is found out or taken for the worst."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from kgdbpatch.errors import Misuse, Refused
from kgdbpatch.image import Image
from kgdbpatch.kernel import Kernel
from kgdbpatch.kernel.attaching import attach, detach
from kgdbpatch.kernel.offline import site_checker

from .by_hand import ByHand, started

pytestmark = pytest.mark.long

RECIPE = Path(__file__).parents[2] / "examples" / "own_guest" / "own.toml"
ARENA = "0x2000000..0x4000000"  # own.c leaves the upper half alone


@pytest.fixture(scope="module")
def own() -> Iterator[ByHand]:
    with started(str(RECIPE)) as guest:
        yield guest


def code(guest: ByHand) -> tuple[Image, range]:
    """Return what only we know: the kernel's file, and its translated code."""
    image = Image.load(guest.kernel)
    section = image.code_sections()[-1]
    return image, range(section.address, section.address + section.size & -4)


def held(guest: ByHand, name: str) -> int:
    return int.from_bytes(guest.memory(Image.load(guest.kernel).lookup(name), 4), "big")


def attached(guest: ByHand, place: range) -> Kernel:
    return attach("nameless", guest.gdb, text=f"{place.start:#x}..{place.stop:#x}", arena=ARENA)


def test_its_code_is_patched_and_put_back(own: ByHand) -> None:
    """Whatever its file tells as live is live without it, too."""
    image, place = code(own)
    before, told, judged = own.memory(place.start, len(place)), site_checker(image), 0
    with attached(own, place) as kernel:
        assert all(function.guessed for function in kernel.image.functions)
        with kernel.site_checker.in_bulk():
            for address in place[::96]:
                with suppress(Refused):
                    seen = kernel.site_checker.live(address).live
                    assert set(told.live(address).live) <= set(seen), hex(address)
                    judged += 1
        assert judged > len(place) / 200
        with kernel.patch(image.lookup("step"), count=True) as patch:
            hits, made = patch.hits or 0, held(own, "steps")
            while held(own, "steps") < made + 1000:
                assert own.process.poll() is None
            assert (patch.hits or 0) >= hits + 1000
        assert kernel.verify().ok
        done = detach(kernel.name)
    assert done.restored, done.reason
    assert own.memory(place.start, len(place)) == before
    assert own.runs()


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("0x3000", Misuse, "--text '0x3000' is not START..END"),
        ("0x3002..0x4000", Misuse, "whole instructions"),
        ("0x4000..0x3000", Misuse, "whole instructions"),
        ("0x40000000..0x40001000", Refused, "the kernel does not map 0x40000000"),
        ("0x80000000..0x80001000", Refused, "is no RAM"),
    ],
)
def test_what_is_no_code_is_refused(own: ByHand, text: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        attach("nameless", own.gdb, text=text, arena=ARENA)
    assert own.runs()


def test_a_file_and_a_range_are_one_too_many(own: ByHand) -> None:
    with pytest.raises(Misuse, match="leave out --kernel, or --text"):
        attach("nameless", own.gdb, own.kernel, text="0x3000..0x4000")
