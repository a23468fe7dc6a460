"""What is free in functions that a kernel may trace is free while it traces them, and while it does not."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from patch.elf import site_checker_of_linux
from patch.matrix.machine import needs_machine, private_runtime

from kgdbpatch.errors import Refused
from kgdbpatch.image import Image
from kgdbpatch.isa import encode
from kgdbpatch.kernel.offline import words
from kgdbpatch.patch.rewritten import FTRACE
from kgdbpatch.personality.linux.rewritten import rewritten

from .judge import Case, Tally, compare
from .programs import Program, build

pytestmark = needs_machine
TRACER = Path(__file__).with_name("tracer.s")
SITES, LIMIT = 400, 5_000_000
ARGUMENTS = {f"r{number}" for number in range(3, 11)}


def entries(image: Image) -> list[int]:
    """Return where the tracer is called; libgcc's functions look as if they called one, too."""
    return [at for at, what in rewritten(image).items() if what.kind == FTRACE and what.target is not None]


def switched_off(image: Image) -> Image:
    """Return the program with a nop at each entry."""
    data = bytearray(image.path.read_bytes())
    (text,) = (section for section in image.code_sections() if section.name == ".text")
    start = data.find(text.data)
    for at in entries(image):
        place = start + at - text.address
        data[place : place + 4] = encode.nop().to_bytes(4, "big")
    path = image.path.with_name("off")
    path.write_bytes(data)
    return Image.load(path)


def case(what: str, image: Image) -> Case:
    checker, sites = site_checker_of_linux(image), []
    every = [at for one in image.functions for at in range(one.address, one.end, 4)]
    near = {at + step for at in entries(image) for step in range(-8, 12, 4)}
    for at in sorted({*random.Random(what).sample(every, min(SITES, len(every))), *near}):
        try:
            sites.append(checker.site(at))
        except Refused:
            continue
    return Case(what, image, tuple(sites), Tally().refused, LIMIT)


@pytest.mark.parametrize("level", ["-O1", "-O2"])
def test_the_same_is_free_whether_a_tracer_is_called_or_not(
    level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KGDBPATCH_CACHE", str(tmp_path / "cache"))
    on = Image.load(build(Program(3, (), "gcc", (level, "-pg")), tmp_path, TRACER))
    off, traced, tally = switched_off(on), entries(on), Tally()
    assert len(traced) > 20
    assert {int(words(on, at, 1)[0]) & 0xFC00_0003 for at in traced} == {0x4800_0001}
    assert {int(words(off, at, 1)[0]) for at in traced} == {encode.nop()}
    cases = [case(f"{level} on", on), case(f"{level} off", off)]
    with private_runtime():
        compare("traced", cases, tally)
    assert (tally.programs, tally.wrong) == (2, [])
    assert tally.reached > 100
    free = [site_checker_of_linux(image).live(at).free for image in (on, off) for at in traced]
    assert np.mean([len(ARGUMENTS & {*names}) for names in free]) > 2


@pytest.mark.parametrize("symbol", ["klp_enable_patch", "register_ftrace_direct"])
def test_where_another_function_may_do_the_work_all_arguments_are_kept(symbol: str, tmp_path: Path) -> None:
    source = tmp_path / "more.s"
    source.write_text(f".globl {symbol}\n{symbol}: blr\n")
    image = Image.load(build(Program(3, (), "gcc", ("-O2", "-pg")), tmp_path, TRACER, source))
    checker = site_checker_of_linux(image)
    assert all({*checker.live(at).live} >= ARGUMENTS for at in entries(image))
