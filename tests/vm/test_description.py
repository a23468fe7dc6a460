"""Registers are where QEMU's description of them says, whichever QEMU and GDB are installed."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import pytest

from kgdbpatch.errors import TargetLost
from kgdbpatch.vm.description import described_registers, read_document
from kgdbpatch.vm.gdb import Debugger
from kgdbpatch.vm.registers import Layout

DOCUMENTS = {
    "target.xml": '<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target>'
    '<architecture>powerpc:common</architecture><xi:include href="core.xml"/><xi:include href="more.xml"/>'
    "</target>",
    "core.xml": '<feature name="core"><reg name="one" bitsize="32"/><reg name="two" bitsize="64" type="int"/>'
    '<reg name="ten" bitsize="32" regnum="10"/><reg bitsize="32" name="eleven"/></feature>',
    "more.xml": '<feature name="more"><flags id="bits" size="4"><field name="one" start="0" end="0"/></flags>'
    '<reg name="five" bitsize="128" regnum="5"/><reg name="ten" bitsize="32" regnum="12"/></feature>',
}


def server(documents: dict[str, str], most: int, asked: list[str] | None = None) -> Callable[[str], str]:
    """Answer as a stub does that sends at most ``most`` bytes at once."""

    def packet(text: str) -> str:
        read = re.fullmatch(r"qXfer:features:read:([\w.-]+):([0-9a-f]+),([0-9a-f]+)", text)
        assert read
        if asked is not None:
            asked.append(text)
        if read[1] not in documents:
            return "E00"
        start, length = int(read[2], 16), min(most, int(read[3], 16))
        piece = documents[read[1]][start : start + length]
        kind = "l" if start + length >= len(documents[read[1]]) else "m"
        return kind + re.sub(r"[#$}*]", lambda found: "}" + chr(ord(found[0]) ^ 0x20), piece)

    return packet


@pytest.mark.parametrize("most", [1, 7, 4000])
def test_numbers_sizes_and_offsets(most: int) -> None:
    places = described_registers(partial(read_document, server(DOCUMENTS, most)))
    assert places == {
        "one": (0, 0, 4),
        "two": (1, 4, 8),
        "five": (5, 12, 16),
        "ten": (10, 28, 4),  # of two of a name the first one
        "eleven": (11, 32, 4),
    }


def test_what_is_of_all_powerpcs_is_counted_though_it_is_not_described() -> None:
    """A CPU without FPU has no fpscr, which is the last of them: QEMU counts it all the same."""
    documents = {
        "target.xml": '<target><xi:include href="core.xml"/><xi:include href="spr.xml"/></target>',
        "core.xml": '<core><reg name="r0" bitsize="32"/><reg name="xer" bitsize="32" regnum="69"/></core>',
        "spr.xml": '<feature><reg name="srr0" bitsize="32"/><reg name="srr1" bitsize="32"/></feature>',
    }
    places = described_registers(partial(read_document, server(documents, 4000)))
    assert {name: place[0] for name, place in places.items()} == {"r0": 0, "xer": 69, "srr0": 71, "srr1": 72}


def test_escaped_characters_count_once() -> None:
    document = '<target><reg name="a}#$*b" bitsize="8"/></target>'
    asked: list[str] = []
    places = described_registers(partial(read_document, server({"target.xml": document}, 20, asked)))
    assert places == {"a}#$*b": (0, 0, 1)}
    assert len(asked) == -(-len(document) // 20)


@pytest.mark.parametrize(
    ("documents", "reason"),
    [
        ({}, "QEMU does not describe its registers: it answers 'E00' for target.xml"),
        ({"target.xml": "<target><reg"}, "target.xml is no XML"),
        (
            {"target.xml": '<t><xi:include href="a"/></t>', "a": '<f><xi:include href="target.xml"/></f>'},
            "itself",
        ),
        ({"target.xml": '<t><reg name="r0" bitsize="wide"/></t>'}, "register 'r0' with 'wide' bits"),
        ({"target.xml": '<t><reg name="r0" bitsize="32"/></t>'}, "QEMU describes no register r1, r2, "),
    ],
)
def test_what_is_no_description_is_said(documents: dict[str, str], reason: str) -> None:
    with pytest.raises(TargetLost, match=re.escape(reason)):
        Layout.read(server(documents, 4000))


@pytest.mark.guest
def test_gdb_finds_the_same_registers_under_the_same_names(debugger: Debugger) -> None:
    """GDB reads the description with a parser of its own."""
    with debugger.stopped() as session:
        names = [name for name, (_, _, size) in session.layout.places.items() if size == 4]
        for index, name in enumerate(names):
            if name not in ("pc", "msr"):
                session.packet(f"P{session.layout.number(name):x}={0x0101 * (index + 1):08x}")
        ours = {name: session.register(name) for name in names}
        _, *theirs = session.commands("maint flush register-cache", *(f"output/x ${name}" for name in names))
    assert {name: int(value, 16) for name, value in zip(names, theirs, strict=True)} == ours
    assert len(set(ours.values())) > 60
