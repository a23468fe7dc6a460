"""A kernel that uses all BATs itself: its own page tables map the arena, and go on doing so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kgdbpatch.component.layout import BlockEntries
from kgdbpatch.cpu.msr import EE
from kgdbpatch.guests import Recipe
from kgdbpatch.kernel import Kernel

pytestmark = pytest.mark.linux


@pytest.fixture(scope="module")
def paged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """The bundled kernel with an amount of memory that takes it all four data BATs to map."""
    text = Recipe.find("linux").path.read_text()
    text = text.replace("memory_mib = 288", "memory_mib = 512").replace(
        "announced_mib = 256", "announced_mib = 480"
    )
    path = tmp_path_factory.mktemp("recipe") / "paged.toml"
    path.write_text(text)
    with Kernel.boot(path, f"paged-{path.parent.name}") as kernel:
        yield kernel


def test_the_kernels_page_tables_map_the_arena(paged: Kernel) -> None:
    header = paged.header
    assert header.arena.paged
    assert header.entries[1].instruction is not None
    assert header.entries == (BlockEntries(None, None), BlockEntries(header.entries[1].instruction, None))


def forget_pages(kernel: Kernel) -> int:
    """Take the arena's pages out of the hashed page table, as the kernel may at any time; return how many."""
    arena = kernel.header.arena
    with kernel.stopped() as session:
        while not session.registers()["msr"] & EE:
            session.resume()
            session.interrupt()
        sdr1 = session.register("sdr1")
        table, size = sdr1 & 0xFFFF_0000, ((sdr1 & 0x1FF) + 1) << 16
        entries = np.frombuffer(session.read_physical(table, size), ">u4").reshape(-1, 2)
        ours = (entries[:, 0] >> 31 == 1) & (entries[:, 1] >= arena.physical)
        ours &= entries[:, 1] < arena.physical + arena.size
        for index in np.flatnonzero(ours).tolist():
            session.write_physical(table + 8 * index, bytes(4))
    return int(ours.sum())


def test_counts_are_exact(paged: Kernel) -> None:
    """Every hit is counted, although the hashed page table forgets the pages again and again."""
    with paged.patch("__sys_sendto", count=True) as calls, paged.patch("udp_sendmsg", count=True) as sent:
        paged.send("pause\n")
        paged.log.wait("done pause")
        before, forgotten = [patch.hits or 0 for patch in (calls, sent)], 0
        for _ in range(5):
            position = paged.log.position()
            forgotten += forget_pages(paged)
            paged.send("udp 100\n")
            paged.log.wait("done udp 100", since=position, deadline=60)
        assert [patch.hits for patch in (calls, sent)] == [hits + 500 for hits in before]
        assert forgotten >= 5
        paged.send("resume\n")
    assert paged.verify().ok


def test_a_payload_with_data_of_its_own(paged: Kernel, examples: Path) -> None:
    position = paged.log.position()
    with paged.patch("udp_sendmsg", c=examples / "udp_probe.c"):
        line = paged.log.wait(r"udp_sendmsg length: \d+ \| 3$", since=position, deadline=60)
    assert "KernMonitor" in line.message
    assert paged.verify().ok


@pytest.mark.soak
def test_patches_where_exceptions_come_in_while_pages_are_forgotten(paged: Kernel) -> None:
    """The kernel is ready there for a fault of its data, and a patch's is like one of its own."""
    named = re.compile(r"_virt$|exception|interrupt|syscall|transfer|do_IRQ|timer|page_fault|hash|irq")
    functions = [one for one in paged.functions("*") if one.section == ".text" and named.search(one.name)]
    batch = paged.patch_all([one.address + at for one in functions for at in (0, 16)], count=True)
    assert len(batch.patches) > 1000
    assert sum(forget_pages(paged) for _ in range(40)) > 40
    position = paged.log.position()
    assert paged.log.wait(r"selfcheck: \d+ ok, 0 bad", since=position, deadline=60)
    while paged.remove_all():
        pass
    assert paged.verify().ok
