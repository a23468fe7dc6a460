from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from kgdbpatch.guests import Recipe
from kgdbpatch.image import Image
from kgdbpatch.personality.darwin import Darwin
from kgdbpatch.vm.gdb import Debugger
from kgdbpatch.vm.qemu import Qemu

SELFCHECK = r"selfcheck: (?P<ok>\d+) ok, (?P<bad>\d+) bad"
SEGMENT_IDS = 0x111  # segment n has the id n times this (images/README.md)
STATISTICS = (
    r"statistics: (?P<switches>\d+) switches, (?P<preemptions>\d+) preemptions, "
    r"(?P<faults>\d+) page faults, (?P<packets>\d+) packets, (?P<free>\d+) free pages"
)


_numbers = itertools.count()


recipe = Recipe.find("darwin")


def provoked(more: str = "", epoch: int | None = None) -> Recipe:
    """Return the same guest with more on its kernel's command line."""
    line = recipe.boot.command_line
    line = line if epoch is None else line.replace("{epoch}", str(epoch))
    return replace(recipe, boot=replace(recipe.boot, command_line=f"{line} {more}"))


@contextmanager
def booted(guest: Recipe, icount: str | None = None) -> Iterator[Qemu]:
    kernel = guest.build(print)
    qemu = Qemu.start(
        f"darwin-{next(_numbers)}",
        guest.machine,
        guest.memory.memory,
        lambda directory: guest.qemu_args(kernel, directory),
        metadata={},
        icount=icount,
    )
    try:
        yield qemu
    finally:
        qemu.shutdown()


@pytest.fixture(autouse=True, scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("KGDBPATCH_RUNTIME", str(tmp_path_factory.mktemp("runtime")))
        yield


@pytest.fixture(scope="module")
def guest() -> Iterator[Qemu]:
    with booted(recipe) as qemu:
        qemu.console.wait(recipe.ready, recipe.boot_deadline)
        yield qemu


@pytest.fixture(scope="module")
def image() -> Image:
    return Image.load(recipe.build(print))


def word(guest: Qemu, image: Image, name: str) -> int:
    return int.from_bytes(guest.ram.read(image.lookup(name), 4), "big")


def selfcheck(guest: Qemu) -> tuple[int, int]:
    seen = guest.console.wait(SELFCHECK, 30, guest.console.position())
    return int(seen["ok"]), int(seen["bad"])


def test_it_boots_in_two_seconds() -> None:
    recipe.build(print)
    started = time.monotonic()
    with booted(recipe) as qemu:
        qemu.console.wait(recipe.ready, 30)
        assert time.monotonic() - started < 2


def test_the_workload_passes_its_checks(guest: Qemu) -> None:
    before, _ = selfcheck(guest)
    ok, bad = selfcheck(guest)
    assert bad == 0
    assert ok > before + 200


def test_every_line_is_a_syslog_line(guest: Qemu) -> None:
    selfcheck(guest)
    darwin = Darwin()
    lines = [line for line in guest.console.lines(0) if line.strip()]
    parsed = [darwin.parse_log(line) for line in lines]
    assert None not in parsed
    assert {line.source for line in parsed if line} == {"mach_kernel"}
    assert len(parsed) > 3
    assert not any(re.search(darwin.panic, line) for line in lines)


def test_the_time_is_universal_time(guest: Qemu) -> None:
    selfcheck(guest)
    line = [parsed for parsed in map(Darwin().parse_log, guest.console.lines(0)) if parsed][-1]
    now = datetime.now(UTC).replace(tzinfo=None)
    then = datetime.strptime(f"{now.year} {line.time}", "%Y %b %d %H:%M:%S")
    assert abs((now - then).total_seconds()) < 20  # a busy host may hold the guest up


@pytest.mark.parametrize("epoch", [951782400, 951868799, 1_072_915_199, 1_709_164_800, 1_732_318_565])
def test_dates(epoch: int) -> None:
    with booted(provoked(epoch=epoch)) as qemu:
        line = Darwin().parse_log(qemu.console.wait(recipe.ready, 30).string)
    assert line is not None
    at = [datetime.fromtimestamp(epoch + late, UTC).strftime("%b %d %H:%M:%S") for late in range(4)]
    assert line.time in at


@pytest.mark.soak
def test_threads_take_turns_and_pages_come_and_go(guest: Qemu) -> None:
    first = guest.console.wait(STATISTICS, 60, guest.console.position())
    second = guest.console.wait(STATISTICS, 60, guest.console.position())
    change = {name: int(second[name]) - int(first[name]) for name in first.groupdict()}
    assert change["switches"] > 1000
    assert change["preemptions"] > 100
    assert change["faults"] > 100
    assert 60 < change["packets"] < 260  # 10 to 20 a second, for 10 seconds
    assert abs(change["free"]) < 40  # no leak


def test_the_network_thread_serves_what_is_posted(guest: Qemu, image: Image) -> None:
    runs, received = word(guest, image, "netisr_runs"), word(guest, image, "udp_received")
    selfcheck(guest)
    selfcheck(guest)
    assert 5 <= word(guest, image, "netisr_runs") - runs <= 80
    assert word(guest, image, "udp_received") > received


def test_text_stays_what_the_image_says(guest: Qemu, image: Image) -> None:
    selfcheck(guest)
    for section in image.code_sections():
        running = np.frombuffer(guest.ram.read(section.address, section.size), ">u4")
        assert np.array_equal(running, image.words(section)), section.name


def test_the_hidden_memory_is_never_touched(guest: Qemu) -> None:
    selfcheck(guest)
    size = (recipe.memory.memory - recipe.memory.announced) << 20
    assert not guest.ram.array(recipe.memory.announced << 20, size).any()


def page_table(guest: Qemu, sdr1: int) -> list[tuple[int, int, int]]:
    """Return (virtual segment id, page index, lower word) of every valid entry."""
    size = ((sdr1 & 0x1FF) + 1) << 16
    table = np.frombuffer(guest.ram.read(sdr1 & 0xFFFF0000, size), ">u4").reshape(-1, 8, 2)
    found = []
    for group, slot in np.argwhere(table[:, :, 0] >> 31):
        upper, lower = (int(value) for value in table[group, slot])
        segment, secondary, abbreviated = upper >> 7 & 0xFFFFFF, upper >> 6 & 1, upper & 0x3F
        hashed = int(group) ^ (-1 if secondary else 0)
        index_low = (hashed ^ segment) & 0x3FF
        found.append((segment, abbreviated << 10 | index_low, lower))
    return found


def test_the_page_table_maps_what_it_should(guest: Qemu, image: Image) -> None:
    with Debugger(guest) as debugger, debugger.stopped() as session:
        while session.register("msr") & 0x30 != 0x30:  # in the first words of an exception's handler
            session.resume()
            session.interrupt()
        sdr1 = session.register("sdr1")
        bats = [session.register(f"{kind}bat{number}u") for kind in "id" for number in range(4)]
        entries = page_table(guest, sdr1)
    assert not any(bat & 3 for bat in bats)
    mapped = {page << 12: lower for segment, page, lower in entries if segment == 0}
    assert not {0, 0x1000} & set(mapped)
    text = image.lookup("run_netisr") & ~0xFFF
    assert mapped[text] & ~0xFFF == text
    assert mapped[text] & 3 == 3  # read only
    data = image.lookup("netisr") & ~0xFFF
    assert mapped[data] & ~0xFFF == data
    assert mapped[data] & 3 == 0  # the kernel reads and writes, a process may not look
    assert all(lower & ~0xFFF == address for address, lower in mapped.items())  # one-to-one
    arena = {page << 12 for segment, page, _ in entries if segment == SEGMENT_IDS}
    assert not any(page < 0x500_0000 for page in arena)  # nothing at 0x10000000 to 0x14ffffff


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("null-read", r"0x300 - Data access DAR=0x00000008"),
        ("null-write", r"0x300 - Data access DAR=0x00000000"),
        ("page-one", r"0x300 - Data access DAR=0x00001000"),
        ("null-call", r"0x400 - Inst access .*PC=0x00000000"),
        ("text-write", r"0x300 - Data access"),
        ("unmapped", r"0x300 - Data access DAR=0x10000000"),
        ("trap", r"0x700 - Program"),
        ("panic", r"provoked by thread"),
    ],
)
def test_what_is_forbidden_is_found_out(what: str, said: str) -> None:
    with booted(provoked(f"provoke={what}")) as qemu:
        assert re.search(said, qemu.console.wait(Darwin.panic, 30).string)
        qemu.console.wait("We are hanging here", 10)


def test_a_stack_that_overflows_is_found_out() -> None:
    with booted(provoked("provoke=stack")) as qemu:
        qemu.console.wait(Darwin.panic, 30)
        qemu.console.wait("not this thread's stack", 10)
        qemu.console.wait("We are hanging here", 10)


def test_two_runs_by_instruction_count_are_equal() -> None:
    texts = []
    for _ in range(2):
        with booted(provoked(epoch=1_732_318_565), "shift=0,sleep=off") as qemu:
            qemu.console.wait(SELFCHECK, 60)
            texts.append(next(line for line in qemu.console.lines(0) if "selfcheck" in line))
    assert texts[0] == texts[1]


def test_a_reset_boots_again(guest: Qemu) -> None:
    since = guest.console.position()
    guest.qmp("system_reset")
    guest.console.wait(recipe.ready, 30, since)
    assert selfcheck(guest)[1] == 0


@pytest.mark.soak
@pytest.mark.timeout(400)
def test_a_minute_under_load_is_good() -> None:
    """Three guests at once share the host's CPUs for a minute of theirs."""
    with booted(recipe) as one, booted(recipe) as two, booted(recipe) as three:
        for guest in (one, two, three):
            guest.console.wait(recipe.ready, recipe.boot_deadline)
        for _ in range(60):
            counts = [selfcheck(guest) for guest in (one, two, three)]
            assert not any(bad for _, bad in counts)
        for guest in (one, two, three):
            said = [re.search(SELFCHECK, line) for line in guest.console.lines(0)]
            assert sum(found is not None for found in said) >= 60
            assert all(found["bad"] == "0" for found in said if found)
