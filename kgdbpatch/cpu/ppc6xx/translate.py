"""Translate a supervisor's data address as the CPU's MMU does: BATs, then segments and the hash table."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kgdbpatch.vm.ram import Readable

__all__ = ["PAGE", "mapped_pages", "page_entry", "translate"]

PAGE = 4096
_BLOCK = 0x1_FFFF  # bytes of the smallest BAT block, less one


def translate(state: np.void, ram: Readable, address: int) -> int | None:
    """Return the physical address of ``address``, or None where nothing is mapped.

    ``state`` is a `STATE` of the stopped CPU; what MSR says at the moment does not
    matter (PEM 7.4 for BATs, 7.5 and 7.6 for segments and the hashed page table).
    """
    for upper, lower in state["dbat"].astype(np.int64).tolist():
        inside = (upper & 0x1FFC) << 15 | _BLOCK
        if upper & 2 and (address ^ upper) & ~inside & 0xFFFF_FFFF == 0:
            return int(lower & ~_BLOCK | address & inside)
    at = page_entry(state, ram, address)
    if at is None:
        return None
    return int.from_bytes(ram.read(at + 4, 4), "big") & ~(PAGE - 1) | address & PAGE - 1


def page_entry(state: np.void, ram: Readable, address: int) -> int | None:
    """Return the physical address of the page table's entry for a virtual address, or None."""
    segment, sdr1 = int(state["sr"][address >> 28]), int(state["sdr1"])
    if segment >> 31:
        return None  # a direct-store segment
    vsid, page = segment & 0xFF_FFFF, address >> 12 & 0xFFFF
    for secondary in (0, 1):
        hashed = (vsid ^ page) ^ -secondary
        group = sdr1 & 0xFFFF_0000 | (hashed >> 10 & sdr1 & 0x1FF) << 16 | (hashed & 0x3FF) << 6
        wanted = 1 << 31 | vsid << 7 | secondary << 6 | page >> 10
        for index, upper in enumerate(np.frombuffer(ram.read(group, 64), ">u4")[::2].tolist()):
            if upper == wanted:
                return group + 8 * index
    return None


def mapped_pages(state: np.void, ram: Readable) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the virtual and physical addresses of all pages that the CPU's page table maps now.

    An entry tells its page by the low bits of its group's number, which are a hash (PEM 7.6.1.3).
    """
    sdr1 = int(state["sdr1"])
    groups = ((sdr1 & 0x1FF) + 1) << 10
    table = ram.read(sdr1 & 0xFFFF_0000, groups * 64)
    entries = np.frombuffer(table, ">u4").astype(np.int64).reshape(-1, 2)
    group = np.arange(len(entries)) >> 3
    used = entries[:, 0] >> 31 == 1
    (upper, lower), group = entries[used].T, group[used]
    hashed = np.where(upper & 0x40, ~group, group) & 0x3FF
    vsid = upper >> 7 & 0xFF_FFFF
    page = (upper & 0x3F) << 10 | (hashed ^ vsid) & 0x3FF
    at, physical = [], []
    for segment, register in enumerate(state["sr"].astype(np.int64).tolist()):
        here = (vsid == register & 0xFF_FFFF) & (register >> 31 == 0)
        at.append(segment << 28 | page[here] << 12)
        physical.append(lower[here] & ~(PAGE - 1))
    return np.concatenate(at), np.concatenate(physical)
