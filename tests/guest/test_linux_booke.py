"""A real Linux on one e500v2, on two, on a 440, on a 405: patched at many places, attached to, let go of."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from kgdbpatch.errors import Misuse, Refused
from kgdbpatch.kernel import Kernel
from kgdbpatch.kernel.attaching import attach, detach
from kgdbpatch.kernel.guest_doctor import examine

from .by_hand import ByHand, started
from .junk import junk
from .work import beat, empty, hits

pytestmark = [pytest.mark.soak, pytest.mark.linux, pytest.mark.timeout(1800)]
GUESTS = [
    pytest.param(name, marks=[pytest.mark.kernel(name), pytest.mark.xdist_group(name)])
    for name in ("linux-e500", "linux-e500-smp", "linux-440", "linux-405")
]
every = pytest.mark.parametrize("profile", GUESTS)
LINEAR = 0xC000_0000
PROBED = ("udp_sendmsg", "vfs_read", "do_exit")


def functions(kernel: Kernel, count: int) -> list[int]:
    """Return the addresses of so many functions, from everywhere in the text."""
    found = [one.address for one in kernel.functions("*") if one.section == ".text" and one.size > 64]
    return found[:: len(found) // count][:count]


def text(memory: bytes, kernel: Kernel) -> bytes:
    """Return the code that stays after boot, to the end of its last page.

    On a 405, the handlers of TLB misses keep the number of the entry that they filled last among it.
    """
    first, last = (
        next(section for section in kernel.image.code_sections() if section.name == name)
        for name in (".head.text", ".text")
    )
    found = bytearray(memory[first.address - LINEAR : (last.end - LINEAR | 0xFFF) + 1])
    for symbol in kernel.image.symbols.last(("tlb_4xx_index",)).values():
        at = symbol.address - first.address
        found[at : at + 4] = bytes(4)
    return bytes(found)


@every
def test_probes_in_c_write_to_the_log(kernel: Kernel, profile: str, tmp_path: Path) -> None:
    for name in PROBED:
        source = tmp_path / f"{name}.c"
        source.write_text(
            "int _printk(const char *, ...);\n"
            f'void probe(void) {{ static int n; if (!(n++ & 63)) _printk("probe {name}\\n"); }}\n'
        )
        since = kernel.log.position()
        kernel.patch(name, c=source)
        kernel.log.wait(f"probe {name}", deadline=120, since=since)
    beat(kernel, 2)
    verified = kernel.verify()
    assert (verified.patched, verified.kernel_changes) == (len(PROBED), ())
    empty(kernel)
    beat(kernel)


@pytest.mark.kernel("linux-440")
def test_a_state_that_qemu_would_not_load_is_not_saved(kernel: Kernel) -> None:
    with pytest.raises(Misuse, match="does not bring the saved state of a 440 back"):
        kernel.snapshot("one")
    with pytest.raises(Misuse, match="does not bring the saved state of a 440 back"):
        kernel.restore("one")
    beat(kernel)


@every
def test_a_thousand_functions_are_counted_in_one_stop(kernel: Kernel, profile: str) -> None:
    batch = kernel.patch_all(functions(kernel, 1000), count=True)
    assert len(batch.ids) > 950
    beat(kernel, 3)
    assert sum(1 for patch in kernel.patches if patch.hits) > 50
    assert kernel.verify().ok
    empty(kernel)
    beat(kernel)


@every
def test_traps_lead_to_patches_and_their_hook_goes(kernel: Kernel, profile: str) -> None:
    memory = kernel.qemu.ram.read(0, 16 << 20)
    first = kernel.patch("udp_sendmsg", count=True, via="trap")
    over = kernel.patch("udp_sendmsg", count=True)
    assert [one.entry for one in (first, over)] == ["trap", "branch"]
    kernel.patch_all(functions(kernel, 100), count=True, via="trap")
    beat(kernel, 2)
    assert hits(first)
    assert hits(over)
    assert kernel.verify().ok
    empty(kernel)
    assert kernel.header.hook is None
    assert text(kernel.qemu.ram.read(0, 16 << 20), kernel) == text(memory, kernel)
    beat(kernel)


@every
def test_patches_come_and_go_under_load(kernel: Kernel, profile: str) -> None:
    """Each block of functions is counted, and taken out while threads are in it."""
    everything = functions(kernel, 4000)
    for start in range(0, len(everything), 200):
        kernel.patch_all(everything[start : start + 200], count=True)
        kernel.remove_all()
    beat(kernel, 2)
    empty(kernel)


@every
def test_free_registers_are_free(kernel: Kernel, profile: str) -> None:
    """Junk in all of them, at 2,000 places of functions that the workload runs.

    The 405's clock ticks some 1,000 times a second, as its wrapper knows no better: fewer leave time for it.
    """
    wanted = 500 if profile == "linux-405" else 2000
    kernel.patch_all(functions(kernel, 8000), count=True)
    beat(kernel, 3)
    ran = [kernel[patch.site] for patch in kernel.patches if patch.hits]
    empty(kernel)
    chosen = random.Random(7)
    every_site = [one.address + 4 * word for one in ran for word in range(one.size // 4)]
    chosen.shuffle(every_site)
    payloads = {}
    for site in every_site:
        with suppress(Refused):
            payload = junk(kernel.live(site).free, kernel.image.abi)
            if payload:
                payloads[site] = payload
        if len(payloads) == wanted:
            break
    batch = kernel.patch_each(payloads)
    beat(kernel, 5)
    reached = sum(1 for patch in kernel.patches if patch.hits)
    print(f"{len(batch.patches)} sites of {len(ran)} functions, {reached} of them reached")
    assert len(batch.patches) > 0.9 * wanted
    assert reached > 0.15 * wanted
    assert kernel.verify().ok
    empty(kernel)
    beat(kernel, 2)


@pytest.fixture(params=["linux-e500", "linux-e500-smp", "linux-440", "linux-405"])
def by_hand(request: pytest.FixtureRequest) -> Iterator[ByHand]:
    with started(request.param) as guest:
        yield guest


def tlb(guest: ByHand) -> str:
    """Return what TLB1 holds, of every CPU; of a TLB that the kernel fills in turns, what stays."""
    cpus = guest.ask("query-cpus-fast")
    assert isinstance(cpus, list)
    told = [
        str(guest.ask("human-monitor-command", **{"command-line": "info tlb", "cpu-index": number}))
        for number in range(len(cpus))
    ]
    if "TLB1" not in told[0]:
        return "\n".join(line for line in told[0].splitlines() if re.search(r" 256M ", line))
    return "\n".join(one[one.index("TLB1") :] for one in told)


def test_one_that_was_started_by_hand_is_left_as_it_was(by_hand: ByHand) -> None:
    by_hand.pause()
    before, mapped = by_hand.memory(), tlb(by_hand)
    by_hand.resume()
    attach("hand", by_hand.gdb, by_hand.kernel).close()
    with Kernel.attach("hand") as kernel:
        assert kernel.unpatchable is None
        assert not [trait for trait in examine("hand") if trait.topic == "patches" and not trait.works]
        counted = kernel.patch("udp_sendmsg", count=True)
        kernel.patch("vfs_read", asm="nop")
        kernel.patch("vfs_write", count=True, via="trap")
        kernel.patch_all(functions(kernel, 1000), count=True)
        until = time.monotonic() + 120
        while not hits(kernel.find_patch(counted.id)):
            assert time.monotonic() < until
        assert kernel.verify().ok
        hidden = kernel.header.arena.physical
        done = detach("hand")
        assert done.removed > 950
        assert (done.restored, done.reason) == (True, "")
        by_hand.pause()
        after = by_hand.memory()
        assert tlb(by_hand) == mapped
        by_hand.resume()
        assert text(after, kernel) == text(before, kernel)
    assert after[hidden:] == before[hidden:]
    log = (by_hand.directory / "console").read_text(errors="replace")
    checks = [line for line in log.splitlines() if "selfcheck" in line]
    assert checks
    assert all(line.endswith(" 0 bad") for line in checks)
