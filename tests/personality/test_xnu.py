"""Mac OS X's own kernel is told from the bundled one, and nothing is mapped behind its back."""

from __future__ import annotations

from pathlib import Path

import pytest
from image.conftest import macho
from image.machofile import N_EXT, N_SECT

from kgdbpatch.guests import Recipe
from kgdbpatch.image import Image
from kgdbpatch.personality import MemoryPlan
from kgdbpatch.personality.darwin import Darwin

KERNEL_MAPS = range(0x1000, 0xE000_0000)  # osfmk/mach/ppc/vm_param.h
EXAMPLE = Path(__file__).parents[2] / "examples" / "mac_os_x" / "mac_os_x.toml"
COPIES = range(0xE000_0000, 0xF000_0000)  # the segment through which it sees processes


@pytest.fixture
def xnu(tmp_path: Path) -> Image:
    file = macho()
    file.symbols.append(("_mapping_prealloc", N_SECT | N_EXT, 2, 0x3018))
    (tmp_path / "mach_kernel").write_bytes(file.build())
    return Image.load(tmp_path / "mach_kernel")


def test_it_has_no_entry_of_its_hash_table_taken(xnu: Image) -> None:
    plan = Darwin(MemoryPlan(544, 512)).arena(xnu)
    assert (plan.springboards, plan.tails) == (None, None)
    assert plan.near is not None
    for address in (plan.virtual, plan.virtual + plan.size - 1, plan.near.start, plan.near.end - 1):
        assert address not in KERNEL_MAPS
        assert address not in COPIES


def test_its_stacks_may_be_anywhere(xnu: Image) -> None:
    assert Darwin(MemoryPlan(544, 512)).stack_physical(xnu, 0x0200_0000) is None


def test_the_bundled_kernel_is_another() -> None:
    recipe = Recipe.find("darwin")
    image, system = Image.load(recipe.build(lambda _: None)), recipe.personality
    plan = system.arena(image)
    assert plan.springboards is not None
    assert plan.tails is not None
    assert system.stack_physical(image, 0x0200_0000) == 0x0200_0000


def test_the_recipe_for_a_disk_of_ones_own_is_read(xnu: Image) -> None:
    recipe = Recipe.find(EXAMPLE)
    assert isinstance(recipe.personality, Darwin)
    assert recipe.memory.arena_size == 32 << 20
    assert recipe.machine.name == "mac99"
