"""Whether a kernel is asked for memory for patches, and what is told where it is not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from analysis.code import link, needs_as

from kgdbpatch.cpu import of_model
from kgdbpatch.errors import Refused
from kgdbpatch.image import Image
from kgdbpatch.kernel.lending import Lender, with_memory
from kgdbpatch.personality import MemoryPlan, personality
from kgdbpatch.personality.base import KernelCall

MIB = 1 << 20


def built(place: Path, *names: str) -> Image:
    one = " .globl {0}\n .type {0},@function\n{0}: blr\n .size {0},4\n"
    return link("".join(one.format(name) for name in names), place)


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return built(tmp_path, "__get_free_pages", "free_pages")


def lender(
    image: Image, kind: str = "linux", model: str = "", *, cpus: int = 1, calls: bool = True
) -> Lender:
    """Return one of a guest that is paused, if it comes to asking."""
    qemu: Any = SimpleNamespace(cpus=lambda: cpus, runs=lambda: False, name="guest")
    able: Any = SimpleNamespace(possible=lambda: calls)
    nothing: Any = None
    system = personality(kind, MemoryPlan(256, 256))
    return Lender(qemu, nothing, of_model(model), system, image, able, nothing)


@needs_as
def test_who_is_asked_and_who_is_not(image: Image) -> None:
    for model, cpus in (("", 1), ("440", 1), ("e500", 1), ("e500", 2)):
        assert lender(image, model=model, cpus=cpus).impossible() is None
    for one, why in (
        (lender(image, "darwin"), "how this kernel allocates pages is not known"),
        (lender(image, model="440", cpus=2), "the guest has 2 CPUs"),
        (lender(image, cpus=2), "the guest has 2 CPUs"),
        (lender(image, calls=False), "functions cannot be called"),
    ):
        assert why in (one.impossible() or "")
        with pytest.raises(Refused, match=why):
            one.borrow()
    with pytest.raises(Refused, match="while the guest runs"):
        lender(image).borrow()


@needs_as
def test_both_reasons_are_told(image: Image) -> None:
    recipe = SimpleNamespace(nothing_hidden=None)
    guest: Any = SimpleNamespace(_recipe=recipe, _lender=lender(image, cpus=3))
    assert with_memory(guest) is guest
    recipe.nothing_hidden = "'mem=' would leave some"
    with pytest.raises(Refused, match=r"some; nor does the kernel's own allocator .* 3 CPUs") as error:
        with_memory(guest)
    assert error.value.rule == "mapping"


@needs_as
@pytest.mark.parametrize("name", ["__get_free_pages", "get_free_pages_noprof"])
def test_the_calls_by_what_the_kernel_has(tmp_path: Path, name: str) -> None:
    """Linux's gfp.h: ``__get_free_pages(gfp, order)`` (renamed in 6.10), ``free_pages(addr, order)``."""
    image, linux = built(tmp_path, name, "free_pages"), personality("linux", MemoryPlan(256, 256))
    assert linux.allocation(image, 4 * MIB) == KernelCall(image.lookup(name), (0, 10))
    freed = linux.freeing(image, 0xC100_0000, 2 * MIB)
    assert freed == KernelCall(image.lookup("free_pages"), (0xC100_0000, 9))
    assert linux.allocation(built(tmp_path, name), 4 * MIB) is None, "it could not be given back"
    assert personality("darwin").allocation(image, 4 * MIB) is None


@needs_as
def test_a_borrowed_arena_lies_in_the_linear_map(image: Image) -> None:
    linux = personality("linux", MemoryPlan(256, 256, 20 * MIB, 4 * MIB))
    first = image.segments[0]
    base = first.address - (first.physical or 0)
    plans = list(linux.arenas(image))
    assert plans
    for plan in plans:
        assert (plan.physical, plan.size) == (20 * MIB, 4 * MIB)
        assert (plan.virtual, plan.linear) == (base + 20 * MIB, True)
        assert plan.near is None or plan.near.end - plan.near.start in (1 * MIB, 2 * MIB)


@needs_as
@pytest.mark.parametrize(("most", "lowmem"), [(None, 768 * MIB), (512 * MIB, 512 * MIB), (0, 768 * MIB)])
def test_the_linear_map_ends_where_the_kernel_says(tmp_path: Path, most: int | None, lowmem: int) -> None:
    """What lies above it is mapped page by page, stacks and modules among it."""
    data = "" if most is None else f" .data\n .globl __max_low_memory\n__max_low_memory: .long {most}\n"
    image = link(" .globl one\n .type one,@function\none: blr\n .size one,4\n" + data, tmp_path)
    first = image.segments[0]
    base = first.address - (first.physical or 0)
    linux = personality("linux", MemoryPlan(1024, 1024))
    assert linux.to_physical(image, base + lowmem - 4) == lowmem - 4
    assert linux.to_physical(image, base + lowmem) is None
    assert personality("linux", MemoryPlan(256, 256)).to_physical(image, base + 256 * MIB) is None
