"""A module by itself is judged no bolder than where its callers and callees are in view."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from kgdbpatch.errors import Misuse, Refused
from kgdbpatch.image import Image
from kgdbpatch.image.contents import Contents
from kgdbpatch.image.loaded import ModuleImage
from kgdbpatch.image.model import Section, Segment
from kgdbpatch.image.modular import ModularImage
from kgdbpatch.isa.decode import Kind
from kgdbpatch.kernel import catalog, module_sites, offline
from kgdbpatch.patch.site_checker import SiteChecker
from kgdbpatch.personality import detect
from kgdbpatch.personality.base import Module, Window
from kgdbpatch.personality.linux.module_tables import module_tables

pytestmark = pytest.mark.linux
STEP = 13  # of the instructions that are compared


@pytest.fixture(scope="module")
def kernel() -> Image:
    try:
        return Image.load(catalog.image_path("linux"))
    except Misuse as error:  # it is not built here
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def whole(kernel: Image) -> SiteChecker:
    return offline.site_checker(kernel)


def cut_out(kernel: Image, first: int, last: int) -> ModuleImage:
    """Return some functions of a kernel as if they were a module, with what is found in the kernel's data.

    It keeps its symbols, as modules do.
    """
    functions = kernel.functions[first:last]
    start, end = functions[0].address, functions[-1].end
    code = kernel.read(start, end - start)
    addresses = np.array([function.address for function in functions], ">u4").tobytes()
    sections = (
        Section("cut,.text", start, len(code), code, True, False),
        Section("cut,.data", 0x1000, len(addresses), addresses, False, True),
    )
    data = [(part.address, part.data) for part in kernel.sections if not part.executable]
    words = offline.words(kernel, start, len(code) // 4)
    tables = module_tables(Window(start, end), words, data, distances=True, at=0x10_0000)
    symbols = [symbol for symbol in kernel.symbols if start <= symbol.address < end]
    symbols = [symbol._replace(section="cut,.text") for symbol in symbols]
    segments = tuple(Segment(part.name, part.address, part.size, part.data) for part in sections)
    contents = Contents(start, (*sections, *tables), segments, symbols)
    return ModuleImage("cut", kernel.path, kernel.format, "", contents, kernel.model)


def judge(kernel: Image, module: ModuleImage) -> SiteChecker:
    return module_sites.site_checker(detect(kernel), module, partial(offline.words, kernel))


@pytest.mark.parametrize("part", [0.3, 0.6])
def test_what_is_free_in_a_module_is_free(kernel: Image, whole: SiteChecker, part: float) -> None:
    first = int(len(kernel.functions) * part)
    section = kernel.functions[first].section
    last = first
    while last < first + 100 and kernel.functions[last].section == section:
        last += 1
    module = cut_out(kernel, first, last)
    alone = judge(kernel, module)
    compared = free = bolder = 0
    for function in kernel.functions[first:last]:
        for address in range(function.address, function.end, 4 * STEP):
            try:
                mine, theirs = alone.live(address), whole.live(address)
            except Refused:
                continue
            for name in {*mine.free} - {*theirs.free}:
                place = whole.why(address)[name]
                assert place is not None, hex(address)
                # but for what callers in one compilation with it, or with what it ends in, may look at later
                assert whole.instruction(place).kind in (Kind.RETURN, Kind.JUMP, Kind.INDIRECT), hex(address)
                bolder += 1
            compared, free = compared + 1, free + len(mine.free)
    assert compared > 100
    assert 20 * bolder < free
    assert free > 2 * compared  # and it is worth something
    inside = [at for at in detect(kernel).fault_sites(kernel) if module.function_at(at) is not None]
    extra = detect(kernel).fault_sites(module) - {*inside}
    # a nop behind an access to a device, to which its machine check may come late, looks like a jump label
    assert {*inside} <= detect(kernel).fault_sites(module) | detect(kernel).rewritten(module).keys()
    assert len(extra) < 16  # pairs of words that look like an entry: 12 in all the data of a kernel


def test_each_is_judged_by_its_own(kernel: Image, whole: SiteChecker) -> None:
    first = len(kernel.functions) // 2
    module = cut_out(kernel, first, first + 20)
    image = ModularImage(kernel, [module])
    start = kernel.functions[first].address
    inside, outside = whole.entry(start), whole.entry(kernel.functions[first + 60].address)
    mine = judge(kernel, module)
    now = [Module("cut", Window(start, inside + 4), 0, True)]
    found = module_sites.ModularSiteChecker(whole, image, {"cut": mine}, lambda at: now[0] if now else None)
    assert found.live(outside) == whole.live(outside)
    assert found.live(inside) == mine.live(inside)
    assert found.site(outside) == whole.site(outside)
    assert found.direct_calls().function(inside) == start
    now[:] = [Module("cut", Window(start, inside + 4), 0, False)]
    with pytest.raises(Refused, match="loaded or unloaded") as refused:
        found.site(inside)
    assert refused.value.rule == "module"
    now.clear()
    with pytest.raises(Refused, match="loaded or unloaded"):
        found.site(inside)
