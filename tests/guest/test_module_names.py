"""Payloads use the names of modules and extensions, which stay loaded as long: the guest is the judge."""

from __future__ import annotations

import time

import pytest

from kgdbpatch.errors import BadPatch, Refused
from kgdbpatch.kernel import Kernel

from .test_modules import obeyed
from .work import beat, empty

pytestmark = pytest.mark.long

FILTER = "org.darwin.kext.PacketFilter"
USES = """
extern unsigned filter_count(unsigned) {of};
unsigned calls, seen;
void f(void) {{ calls++; seen = filter_count(17); }}
"""
TICK = """
#include <kgdbpatch.h>
extern void {name}(unsigned long) {of};
extern unsigned long calls KGP_OF(counter, calls);
unsigned served;
unsigned long before, after;
void f(void) {{ if (served++) return; before = calls; {name}(7); after = calls; }}
"""
OTHER = """
unsigned other;
void {name}(unsigned long at) {{ other = at; }}
void g(void) {{ other++; }}
"""


def references(kernel: Kernel) -> int:
    (found,) = (one for one in kernel.extensions() if one.name == FILTER)
    return int.from_bytes(kernel.read_virtual(found.info + 140, 4), "big")


@pytest.mark.kernel("darwin")
@pytest.mark.parametrize("of", ["", "KGP_OF(PacketFilter, filter_count)", f"KGP_OF({FILTER}, filter_count)"])
def test_an_extension_is_held(kernel: Kernel, of: str) -> None:
    assert references(kernel) == 0
    patch = kernel.patch("run_netisr", c="#include <kgdbpatch.h>" + USES.format(of=of), entry="f")
    assert references(kernel) == 1
    beat(kernel)
    assert patch.variables["seen"]
    (row,) = kernel.patch_table()
    assert (row.holds, row.lost) == ((FILTER,), ())
    empty(kernel)
    assert references(kernel) == 0


@pytest.mark.kernel("darwin")
def test_a_name_of_both_is_ambiguous(kernel: Kernel) -> None:
    first = kernel.patch("run_netisr", c=OTHER.format(name="filter_count"), entry="g")
    told = rf"ambiguous: {first.id}:filter_count at 0x\w+, {FILTER}:filter_count at 0x\w+; say which \(KGP_OF"
    with pytest.raises(BadPatch, match=told):
        kernel.patch("run_netisr", c=USES.format(of=""), entry="f")
    empty(kernel)
    with pytest.raises(Refused, match="only payloads of C"):
        kernel.patch("run_netisr", asm="bl filter_count")
    empty(kernel)


@pytest.mark.kernel("linux")
@pytest.mark.linux
def test_a_module_is_held(kernel: Kernel) -> None:
    obeyed(kernel, "insmod /lib/counter.ko")
    for of in ("", "KGP_OF(counter, counter_tick)"):
        patch = kernel.patch("udp_sendmsg", c=TICK.format(name="counter_tick", of=of), entry="f")
        kernel.send("rmmod counter\n")
        kernel.log.wait("failed rmmod counter: Resource temporarily unavailable", deadline=60)
        until = time.monotonic() + 60
        while not patch.variables["served"] and time.monotonic() < until:
            time.sleep(0.1)
        assert patch.variables["after"] == int(str(patch.variables["before"])) + 1
        (row,) = kernel.patch_table()
        assert (row.holds, row.lost) == (("counter",), ())
        empty(kernel)
    with pytest.raises(Refused, match="stays when that module is unloaded"):
        kernel.patch("udp_sendmsg", call="counter:counter_tick")
    obeyed(kernel, "rmmod counter")
    with pytest.raises(BadPatch, match="no symbol 'counter_tick'"):
        kernel.patch("udp_sendmsg", c=TICK.format(name="counter_tick", of=""), entry="f")
    empty(kernel)
