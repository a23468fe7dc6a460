"""Every word ever written as code is flushed, data line then instruction line, before it can run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kgdbpatch.component.layout import STUB_OFFSET, Op
from kgdbpatch.component.protocol import Command
from kgdbpatch.component.stop import Stop
from kgdbpatch.cpu.ppc6xx import Ppc6xx, stub
from kgdbpatch.isa import encode
from kgdbpatch.kernel import Kernel

from .caches import LINE, cache_instructions, watched
from .ledger import Ledger, lines
from .parts import physical, text


def of_all(kernel: Kernel) -> Ledger:
    pieces = [(physical(kernel, at), 4 * words.size) for at, words in text(kernel).pieces()]
    return Ledger(kernel, pieces, Ppc6xx())


def functions(kernel: Kernel, count: int) -> list[int]:
    text = [f.address for f in kernel.image.functions if f.section in ("__TEXT,__text", ".text")]
    return text[:: len(text) // count][:count]


def history(kernel: Kernel, examples: Path) -> Iterator[str]:
    """Apply, stack, remove and re-use; yield after every operation."""
    kernel.patch_all(functions(kernel, 300), count=True)
    yield "a batch"
    sites = {"darwin": ("run_netisr", "packet_counter.c"), "linux": ("udp_sendmsg", "udp_probe.c")}
    site, source = sites[kernel.profile]
    stack = [kernel.patch(site, c=examples / source)]
    yield "a C function"
    stack += [kernel.patch(site, count=True)]
    yield "a second patch at a site"
    stack += [kernel.patch(site, asm="nop", count=True)]
    yield "a third patch at a site"
    kernel.remove(stack[1].id)
    yield "the middle of a stack"
    some = {patch.id for patch in kernel.patches[::2]}
    kernel.remove(*some)
    yield "every second patch removed"
    kernel.patch_all(functions(kernel, 200), asm="nop", count=True)
    yield "memory used again"
    kernel.patch_all(functions(kernel, 20)[1:], count=True, via="trap")
    yield "patches entered by traps, the program exception hooked"
    kernel.remove_all()
    yield "all removed"
    kernel.patch_all(functions(kernel, 300), count=True)
    yield "the same words at the same places again"
    kernel.remove_all()
    yield "all removed again"


@pytest.mark.parametrize(
    "profile",
    [
        pytest.param("darwin", marks=pytest.mark.kernel("darwin")),
        pytest.param("linux", marks=[pytest.mark.kernel("linux"), pytest.mark.linux, pytest.mark.soak]),
    ],
)
def test_everything_written_is_flushed(kernel: Kernel, profile: str, examples: Path) -> None:
    ledger = of_all(kernel)
    for operation in history(kernel, examples):
        count = ledger.count
        assert ledger.judge() == [], operation
        assert ledger.count > count, operation
    verified = kernel.verify()
    assert (verified.ok, verified.patched) == (True, 0)


def test_a_flush_left_out_is_seen(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, call = of_all(kernel), Stop.call
    ordered: list[Command] = []

    def without(number: int | None) -> None:
        def calling(self: Stop, commands: list[Command]) -> list[int]:
            flushes = [command for command in commands if command.op is Op.FLUSH]
            ordered.extend(flushes)
            left_out = flushes[number] if number is not None and flushes else None
            return call(self, [command for command in commands if command is not left_out])

        monkeypatch.setattr(Stop, "call", calling)

    without(None)
    kernel.patch_all(functions(kernel, 20), count=True)
    assert ledger.judge() == []
    kernel.remove_all()
    assert ledger.judge() == []
    for number in range(len(ordered)):
        without(number)
        kernel.patch_all(functions(kernel, 20), count=True)  # at the same places
        assert ledger.judge(), ordered[number]
        without(None)
        kernel.remove_all()
        assert ledger.judge() == []
    assert len(ordered) >= 2  # bodies, springboards


@contextmanager
def mutated(kernel: Kernel, offset: int) -> Iterator[None]:
    """Put a nop for the stub's word at ``offset`` meanwhile."""
    at = kernel.header.arena.physical + STUB_OFFSET + offset
    with kernel.stopped() as session:
        session.write_physical(at, encode.nop().to_bytes(4, "big"))
    yield
    with kernel.stopped() as session:
        session.write_physical(at, stub.CODE[offset : offset + 4])


def faults(kernel: Kernel, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Apply to a few sites and remove them, instruction by instruction; return what came too late."""
    wrong: list[str] = []
    for applying in (True, False):
        since = ledger.arena.flush_count
        before = ledger.arena.records()
        with watched(monkeypatch) as caches:
            if applying:
                kernel.patch_all(functions(kernel, 3), count=True)
            else:
                kernel.remove_all()
        records = ledger.arena.records() if applying else before
        assert len(records) == 3
        for record in records:
            site, body = record.site_physical, ledger.body(record)
            assert site in caches.stores
            if applying and caches.stores[site] & body:
                wrong.append(f"0x{site:08x} was spliced before its patch was seen by instruction fetch")
            late = set(caches.stages) & (body | lines(site, 4) if applying else lines(site, 4))
            wrong += [f"line 0x{line:08x} is {caches.stages[line].name}" for line in sorted(late)]
        noted = [(cache, line) for cache, *span in ledger.arena.flushes(since) for line in _within(span)]
        if noted != caches.flushed:
            wrong.append("the journal is not what was executed")
    ledger.look()
    return wrong


def _within(span: Iterable[int]) -> range:
    start, end = span
    return range(start, end, LINE)


def test_the_stub_flushes_as_its_journal_says(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = of_all(kernel)
    assert faults(kernel, ledger, monkeypatch) == []


@pytest.mark.parametrize("kind", ["dcbf", "icbi", "sync", "isync", "call"])
def test_an_instruction_left_out_of_the_stub_is_seen(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    ledger = of_all(kernel)
    offsets = cache_instructions(stub.CODE)[kind]
    seen = 0
    for offset in offsets:
        with mutated(kernel, offset):
            seen += bool(faults(kernel, ledger, monkeypatch))
    unused = 1 if kind == "call" else 0  # the one of SPLICE is for stacks
    assert seen == len(offsets) - unused > 0
