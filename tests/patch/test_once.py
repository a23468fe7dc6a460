"""A thread inside a payload passes its site: on the bare CPU, where a payload calls its own site."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from kgdbpatch.isa import encode
from kgdbpatch.isa.abi import DARWIN, SYSV
from kgdbpatch.isa.decode import decode
from kgdbpatch.patch.once import AREA, area_of, claim
from kgdbpatch.patch.plan import Payload, Place, Plan, Site, asm_payload, blob_payload, call_payload, plan

from .matrix.machine import CASE, STACK, STACK_POINTER, needs_machine, private_runtime, run

CODE, BODY, COUNTERS = 0x0100_0000, 0x0110_0010, 0x0120_0004
SITE = CODE + 0x10
ADD = encode.addi(16, 16, 1)
THREAD = 8192
# mflr r31; stw r31 is not needed: the function keeps LR in r31
CALLER = [encode.mflr(31), encode.bl(CODE + 4, SITE), encode.mtlr(31), encode.blr()]
FUNCTION = [ADD, encode.blr()]  # the site, and its way back


def site(free: str = "", stack: int = THREAD) -> Site:
    names = frozenset(free.split())
    return Site(decode(ADD, SITE), names, names, SYSV, once=stack)


def asm(words: Sequence[int]) -> Payload:
    return asm_payload(lambda _at: list(words), BODY, SYSV)


def own_site() -> Payload:
    """Return a payload that calls its own site twice, from wherever it stands."""
    go = [*encode.load_address(12, SITE), encode.mtctr(12), encode.bctrl()]
    return asm([*go, *go])


def by_c() -> Payload:
    text = [encode.mflr(0), encode.stw(0, 4, 1), encode.stwu(1, -32, 1)]
    text += [*encode.load_address(12, SITE), encode.mtctr(12), encode.bctrl()]
    text += [encode.lwz(0, 36, 1), encode.addi(1, 1, 32), encode.mtlr(0), encode.blr()]
    code = b"".join(word.to_bytes(4, "big") for word in text)
    return blob_payload(lambda at: (code, len(code), at), SYSV, text)


PAYLOADS = {
    "assembler": (own_site(), 2),
    "C": (by_c(), 1),
    "call": (call_payload(SITE, SYSV), 1),
}


def skip_counter(made: Plan) -> int:
    return made.body + len(made.code) - 4


def execute(
    made: Plan, entries: dict[int, int] | None = None, cases: int = 1
) -> tuple[list[int], np.ndarray[tuple[int, int], np.dtype[np.uint32]]]:
    """Run the patched function; return hits, exits and skips, and the registers behind it."""
    words = {CODE + 4 * n: word for n, word in enumerate(CALLER)}
    words |= {SITE + 4 * n: word for n, word in enumerate(FUNCTION)}
    words |= {made.body + 4 * n: word for n, word in enumerate(np.frombuffer(made.code, ">u4").tolist())}
    words |= entries or {}
    words[SITE] = made.splice
    given = np.zeros(cases, CASE)
    given["entry"], given["site"], given["msr"] = CODE, CODE + 12, 0x1000
    given["r"][:] = np.arange(32) * 0x0101_0101
    given["r"][:, 1], given["r"][:, 16] = STACK_POINTER["sysv"], 0
    counters = [COUNTERS, COUNTERS + 4, skip_counter(made)]
    with private_runtime():
        out = run("once", words, given, counters, bytes(len(STACK)), deadline=20)
    return list(out.counters), out.results["r"]


@pytest.mark.guest
@needs_machine[0]
class TestOnTheBareCpu:
    @pytest.mark.parametrize("name", PAYLOADS)
    @pytest.mark.parametrize("free", ["", "r0 r11 r12 cr0 ctr r3 r4 r5 r6 r7 r8 r10"])
    def test_it_calls_its_own_site(self, name: str, free: str) -> None:
        payload, times = PAYLOADS[name]
        made = plan(site(free), payload, Place(BODY, None, COUNTERS))
        counted, registers = execute(made, cases=3)
        assert counted == [3, 3, 3 * times]
        assert registers[:, 16].tolist() == [1 + times] * 3, "the displaced instruction runs each time"
        kept = [n for n in range(2, 31) if n != 16 and f"r{n}" not in free.split()]
        assert (registers[:, kept] == np.array(kept) * 0x0101_0101).all()

    @pytest.mark.parametrize("stack", [8192, 32768])
    def test_entries_of_others(self, stack: int) -> None:
        """Where all of a bucket is taken the payload is skipped; one word left is enough."""
        made = plan(site(stack=stack), own_site(), Place(BODY, None, COUNTERS))
        held, _ = area_of(made.body + len(made.code) - AREA)
        pointer = STACK_POINTER["sysv"]
        bucket = held + 16 * (pointer // stack % 16)
        others = [pointer + stack * 16 * (n + 1) for n in range(4)]
        full = {bucket + 4 * n: other for n, other in enumerate(others)}
        assert execute(made, full)[0] == [0, 0, 1]
        for free in (0, 3):
            assert execute(made, {at: v for at, v in full.items() if at != bucket + 4 * free})[0] == [1, 1, 2]

    def test_entries_of_the_same_stack(self) -> None:
        made = plan(site(), own_site(), Place(BODY, None, COUNTERS))
        held, _ = area_of(made.body + len(made.code) - AREA)
        pointer = STACK_POINTER["sysv"]
        bucket = held + 16 * (pointer // THREAD % 16)
        others = {bucket + 4 * n: pointer + THREAD * 16 * (n + 1) for n in range(3)}
        inside = (pointer & -THREAD) + THREAD - 16
        assert inside > pointer
        assert execute(made, {**others, bucket + 12: inside})[0] == [0, 0, 1], "it is further up: inside"
        never_back = (pointer & -THREAD) + 64
        assert execute(made, {**others, bucket + 12: never_back})[0] == [1, 1, 2], "below: it never came back"


def test_what_it_costs() -> None:
    """Thirty instructions of a hit: a straight way through the claim, and the release."""
    plain = plan(site()._replace(once=0), call_payload(SITE, SYSV), Place(BODY, None, COUNTERS))
    made = plan(site(), call_payload(SITE, SYSV), Place(BODY, None, COUNTERS))
    assert made.body_words - plain.body_words == len(claim(BODY, THREAD, 8, 0)) + 3
    assert not plain.guarded


@pytest.mark.parametrize("abi", [SYSV, DARWIN])
@pytest.mark.parametrize("at", range(BODY, BODY + 0x110, 0x30))
def test_a_body_is_as_large_wherever_it_stands(abi: object, at: int) -> None:
    where = site()._replace(abi=abi)  # type: ignore[arg-type]
    first = plan(where, by_c(), Place(BODY, None, COUNTERS))
    made = plan(where, by_c(), Place(at, None, COUNTERS))
    assert (len(made.code), made.body_words) == (len(first.code), first.body_words)
    held, skipped = area_of(at + len(made.code) - AREA)
    assert held % 256 == 0
    assert made.constant_size + at <= held
    assert held + 256 <= skipped < at + len(made.code)


def test_only_what_calls_is_guarded() -> None:
    leaf = asm_payload(lambda _: [encode.addi(3, 3, 1)], BODY, SYSV, counted=True)
    assert not plan(site(), leaf, Place(BODY, None, COUNTERS)).guarded
