"""Every mechanism of the darwin guest, read back from the running guest (table in images/README.md)."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest

from kgdbpatch.cpu.ppc6xx import vectors
from kgdbpatch.image import Image
from kgdbpatch.kernel import Kernel
from kgdbpatch.vm.gdb import Debugger
from kgdbpatch.vm.qemu import Qemu

from .stub import stops, stub

VECTORS = {
    0x300: "data access",
    0x400: "instruction access",
    0x500: "external interrupt",
    0x600: "alignment",
    0x700: "program",
    0x800: "floating point unavailable",
    0x900: "decrementer",
    0xC00: "system call",
    0xD00: "trace",
}
MSR_PR, MSR_FP = 0x4000, 0x2000
USER = range(0x5000_0000, 0x8000_0000)
SAVEAREA_SRR0, SAVEAREA_EXCEPTION = 128, 160  # images/darwin/include/ppc.h
KMOD = struct.Struct(">3I64s64s2I3I2I2I")  # images/darwin/include/kmod.h


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("KGDBPATCH_RUNTIME", str(tmp_path_factory.mktemp("runtime")))
        with Kernel.boot("darwin", "mechanisms") as kernel:
            try:
                yield kernel
            finally:
                kernel.shutdown()


@pytest.fixture
def qemu(guest: Kernel) -> Qemu:
    return guest.qemu


@pytest.fixture
def image(guest: Kernel) -> Image:
    return guest.image


def words(qemu: Qemu, address: int, count: int = 1) -> list[int]:
    return [int(word) for word in np.frombuffer(qemu.ram.read(address, 4 * count), ">u4")]


def value(guest: Kernel, name: str) -> int:
    return words(guest.qemu, guest.image.lookup(name))[0]


def seconds(guest: Kernel, count: int) -> None:
    """Wait for some of the guest's seconds, all of which must be good ones."""
    since = guest.log.position()
    for _ in range(count):
        line = guest.qemu.console.wait(r"selfcheck: \d+ ok, (\d+) bad", 60, since)
        assert line[1] == "0", line.string
        since = guest.log.position()


def growth(guest: Kernel, *names: str, wait: int = 3) -> dict[str, int]:
    """Return what counters have grown by in some seconds of the guest's, or more till each has grown."""
    before = {name: value(guest, name) for name in names}
    for more in (wait, *[1] * 20):  # a busy host's guest does less in a second
        seconds(guest, more)
        grown = {name: value(guest, name) - before[name] for name in names}
        if all(grown.values()):
            break
    return grown


# ---- exceptions ---------------------------------------------------------------------------------


def test_every_vector_has_about_twenty_instructions_of_its_own(image: Image) -> None:
    (section,) = (s for s in image.code_sections() if s.name == "__VECTORS,__interrupts")
    code = image.words(section)
    for vector in vectors.VECTORS.offsets:
        own = code[vector // 4 : vector // 4 + 64]
        assert 15 <= np.count_nonzero(own) <= 25, hex(vector)


def test_every_kind_of_exception_is_taken(guest: Kernel) -> None:
    table = guest.image.lookup("exception_counts")
    before = words(guest.qemu, table, 32)
    seconds(guest, 4)
    after = words(guest.qemu, table, 32)
    counts = {name: after[vector >> 8] - before[vector >> 8] for vector, name in VECTORS.items()}
    assert all(count > 0 for count in counts.values()), counts
    assert counts["system call"] > 500


def test_a_process_is_interrupted_with_its_whole_context(qemu: Qemu, image: Image) -> None:
    seen: set[int] = set()
    with stub(qemu) as connection:
        for _ in stops(connection, {image.lookup("exception_handler"): "handler"}, 400):
            saved = connection.register("r3")
            registers = words(qemu, saved, 32)
            srr0, srr1 = words(qemu, saved + SAVEAREA_SRR0, 2)
            assert registers[14:] == [connection.register(f"r{n}") for n in range(14, 32)]
            assert connection.register("msr") & (MSR_FP | 0x8000) == 0
            if srr1 & MSR_PR:
                assert srr0 in USER or words(qemu, saved + SAVEAREA_EXCEPTION)[0] == 0x400
                assert registers[1] in USER or registers[1] == 0
                assert connection.register("r1") not in USER
                seen.add(words(qemu, saved + SAVEAREA_EXCEPTION)[0])
            else:
                assert srr0 < 0x5000_0000
    assert 0xC00 in seen


def test_the_fpu_changes_hands_when_it_is_used(guest: Kernel) -> None:
    grown = growth(guest, "fpu_switches", "alignment_assists", "program_assists", "trace_steps")
    assert all(grown.values()), grown


# ---- memory -------------------------------------------------------------------------------------


def spaces(qemu: Qemu) -> dict[int, set[int]]:
    """Return the pages in the hash table by address space: 0 is the kernel's."""
    with Debugger(qemu).stopped() as session:
        sdr1 = session.register("sdr1")
    size = ((sdr1 & 0x1FF) + 1) << 16
    table = np.frombuffer(qemu.ram.read(sdr1 & 0xFFFF0000, size), ">u4").reshape(-1, 8, 2)
    found: dict[int, set[int]] = {}
    for group, slot in np.argwhere(table[:, :, 0] >> 31):
        upper = int(table[group, slot, 0])
        segment, secondary = (upper >> 7 & 0xFFFFFF), upper >> 6 & 1
        low = (int(group) ^ (-1 if secondary else 0) ^ segment) & 0x3FF
        number = segment // 0x111
        page = (number & 15) << 28 | (upper & 0x3F) << 22 | low << 12
        found.setdefault(number >> 4, set()).add(page)
    return found


def test_processes_have_address_spaces_of_their_own(qemu: Qemu) -> None:
    found = spaces(qemu)
    users = {space: pages for space, pages in found.items() if space}
    assert len(users) >= 4
    assert all(page in USER for pages in users.values() for page in pages)
    assert sum(0x5000_1000 in pages for pages in users.values()) >= 4  # each its own first page of text
    assert not {page for page in found[0] if page in USER}


def sites(image: Image, names: list[str]) -> dict[int, str]:
    return {image.lookup(name): name for name in names}


def test_pages_come_through_every_layer(qemu: Qemu, image: Image) -> None:
    layers = ["vm_fault", "pmap_enter", "mapping_make", "hw_add_map"]
    ways: dict[int, list[str]] = {}
    with stub(qemu) as connection, closing(stops(connection, sites(image, layers), 3000)) as reached:
        for name in reached:
            page = connection.register("r4") & ~0xFFF  # the address, in each of them
            way = ways.setdefault(page, [])
            way.append(name)
            if page in USER and way[-4:] == layers:
                return
    pytest.fail(f"no page came through {layers}: {ways}")


def test_a_full_group_gives_entries_up_and_gets_them_back(guest: Kernel) -> None:
    grown = growth(guest, "pteg_evictions", "pteg_refills", "vm_pageins", "vm_faults")
    assert all(grown.values()), grown


# ---- processes ----------------------------------------------------------------------------------


def test_processes_that_do_wrong_are_ended_and_others_go_on(guest: Kernel) -> None:
    grown = growth(guest, "tasks_started", "tasks_killed", "threads_reused", "system_calls", wait=5)
    assert grown["tasks_killed"] >= 5, grown
    assert grown["tasks_started"] >= grown["tasks_killed"]
    assert grown["threads_reused"] > 0
    assert not [line for line in guest.qemu.console.lines(0) if "ended with" in line]


# ---- network ------------------------------------------------------------------------------------


def test_an_interrupt_brings_what_sockets_sent(guest: Kernel) -> None:
    names = ("external_interrupts", "if_interrupts", "if_frames", "socket_sent", "socket_received")
    grown = growth(guest, *names, "netisr_runs", "udp_received", "arp_received", wait=3)
    assert all(grown.values()), grown
    assert grown["if_frames"] >= grown["socket_received"] > 10


@pytest.mark.soak
def test_run_netisr_finds_posted_bits(qemu: Qemu, image: Image) -> None:
    bits = 0
    with stub(qemu) as connection:
        for _ in stops(connection, {image.lookup("run_netisr"): "run_netisr"}, 120):
            posted = words(qemu, image.lookup("netisr"))[0]
            assert posted
            bits |= posted
    assert bits & 1 << 2  # NETISR_IP
    assert bits & (1 << 18 | 1 << 6 | 1 << 28)  # ARP, NS, IPv6


# ---- log ----------------------------------------------------------------------------------------


def test_the_second_console_follows_the_log_file(guest: Kernel) -> None:
    seconds(guest, 3)
    followed = (guest.qemu.directory / "tail.log").read_text().splitlines()[:-1]
    console = [line.rstrip("\r") for line in guest.qemu.console.lines(0)]
    assert len(followed) > 3
    assert followed == console[: len(followed)]
    assert any(re.search(r"logcheck\[\d+\]: entry", line) for line in followed)


# ---- extensions ---------------------------------------------------------------------------------


def extensions(guest: Kernel) -> dict[str, tuple[int, int, dict[str, int]]]:
    """Return address, size and symbols of each extension on the kernel's list, by name.

    The guest stands still meanwhile: it loads and unloads extensions all the time.
    """
    guest.pause()
    try:
        return listed(guest)
    finally:
        guest.resume()


def listed(guest: Kernel) -> dict[str, tuple[int, int, dict[str, int]]]:
    found = {}
    at = value(guest, "kmod")
    while at:
        following, _, _, name, _, _, _, address, size, _, _, _, count, symbols = KMOD.unpack(
            guest.qemu.ram.read(at, KMOD.size)
        )
        pairs = words(guest.qemu, symbols, 2 * count)
        names = [guest.qemu.ram.read(pointer, 40).split(b"\0")[0].decode() for pointer in pairs[1::2]]
        found[name.split(b"\0")[0].decode()] = (address, size, dict(zip(names, pairs[::2], strict=True)))
        at = following
    return found


def test_the_list_of_extensions_tells_where_they_are(guest: Kernel) -> None:
    loaded = extensions(guest)
    assert {"org.darwin.kext.PacketFilter", "org.darwin.kext.Sequence"} <= set(loaded)
    for address, size, symbols in loaded.values():
        assert 0x4000_0000 <= address < address + size <= 0x5000_0000
        assert "_kmod_entry" in symbols
        assert all(address <= symbol < address + size for symbol in symbols.values())
    assert "_packet_filter" in loaded["org.darwin.kext.PacketFilter"][2]


def test_an_extension_runs_where_the_list_says(guest: Kernel) -> None:
    site = extensions(guest)["org.darwin.kext.PacketFilter"][2]["_packet_filter"]
    with stub(guest.qemu) as connection:
        assert list(stops(connection, {site: "filter"}, 3)) == ["filter"] * 3


def test_extensions_come_and_go(guest: Kernel) -> None:
    grown = growth(guest, "kmods_loaded", "kmods_unloaded", wait=3)
    assert grown["kmods_loaded"] > 3
    assert abs(grown["kmods_loaded"] - grown["kmods_unloaded"]) <= 1
