"""Trace programs are read, and what is wrong in one is shown at its place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgdbpatch.errors import Misuse
from kgdbpatch.tracing.formats import formatted
from kgdbpatch.tracing.parse import parse
from kgdbpatch.tracing.plan import MapPlan, conversions
from kgdbpatch.tracing.readout import entry_type, map_size, merged, read_map
from kgdbpatch.tracing.syntax import (
    Assign,
    Binary,
    Call,
    Effect,
    If,
    Map,
    MemberOf,
    Name,
    Number,
    Stop,
    Unary,
)


def test_what_a_program_is_made_of() -> None:
    program = parse(
        """
        udp_sendmsg(sk, msg, len), tcp_*:return if len > 1000 && !sk { // a comment
            @seen[caller, comm] = count();
            if (sk->sk_node.next != 0) { stop } else { $x += -len * 2 }
        }
        every 250ms { print(@seen); clear(@seen) }
        """
    )
    (probe,), (every,) = program.probes, program.every
    assert [(spec.target, spec.parameters, spec.returns) for spec in probe.specs] == [
        ("udp_sendmsg", ("sk", "msg", "len"), False),
        ("tcp_*", (), True),
    ]
    assert isinstance(probe.condition, Binary)
    assert probe.condition.operator == "&&"
    assert isinstance(probe.condition.right, Unary)
    first, second = probe.block
    assert isinstance(first, Assign)
    assert isinstance(first.target, Map)
    assert [key.name for key in first.target.keys if isinstance(key, Name)] == ["caller", "comm"]
    assert isinstance(second, If)
    assert isinstance(second.condition, Binary)
    assert isinstance(second.condition.left, MemberOf)
    assert second.then == (Stop(),)
    (assigned,) = second.other
    assert isinstance(assigned, Assign)
    assert assigned.operator == "+="
    assert every.seconds == 0.25
    calls = [one.expression for one in every.block if isinstance(one, Effect)]
    assert [one.name for one in calls if isinstance(one, Call)] == ["print", "clear"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("10 - 4 - 3", 3),
        ("1 << 4 | 1", 17),
        ("7 & 3 == 3", 1),
        ("0x10 / 3 % 4", 1),
        ("1 < 2 == 1", 1),
        ("2 > 1 ? 5 : 6", 5),
        ("0 ? 1 : 0 ? 2 : 3", 3),
        ("-1 - -2", 1),
    ],
)
def test_operators_bind_as_in_c(text: str, value: int) -> None:
    (probe,) = parse(f"f {{ print({text}) }}").probes
    (effect,) = probe.block
    assert isinstance(effect, Effect)
    assert isinstance(effect.expression, Call)
    assert evaluated(effect.expression.arguments[0]) == value


def evaluated(one: object) -> int:
    """Evaluate an expression of numbers."""
    if isinstance(one, Number):
        return one.value
    if isinstance(one, Unary):
        return {"-": -1, "+": 1}[one.operator] * evaluated(one.operand)
    if isinstance(one, Binary):
        left, right, operator = evaluated(one.left), evaluated(one.right), one.operator.replace("/", "//")
        return int(eval(f"{left} {operator} {right}"))
    return evaluated(one.then if evaluated(one.condition) else one.other)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "column", "about"),
    [
        ("f { count( }", 12, "'}' is not expected"),
        ("f {", 4, "ends too early"),
        ("f { 1 $ 2 }", 7, "'$' is not expected"),
        ("f if x y { }", 8, "'y' is not expected"),
        ("f { print(0x1_0000) }", 14, "not expected"),
        ("f { print(99999999999999999999) }", 11, "more than 64 bits"),
        ("every 1ms { print(@) } f { count() }", 7, "from 50ms to a day"),
        ('f { printf("a) }', 12, "not expected"),
    ],
)
def test_what_is_wrong_is_shown_at_its_place(text: str, column: int, about: str) -> None:
    with pytest.raises(Misuse, match=about.replace("$", r"\$").replace("(", r"\(")) as error:
        parse(text)
    assert f"column {column} " in str(error.value)
    shown, arrow = error.value.__notes__
    assert shown == f"| {text}"
    assert arrow == f"| {' ' * (column - 1)}^"


@given(st.text(max_size=60))
def test_no_text_breaks_it(text: str) -> None:
    for whole in (text, f"f {{ {text} }}"):
        try:
            parse(whole)
        except Misuse:
            continue


def test_formats_are_c_s() -> None:
    cases = [
        ("%d %u %x %c|%5d|%-5s|%05d|%p %%", (-1, 5, 255, 65, 7, "ab", 42, 0xC0000000)),
        ("%s", ("udp",)),
        ("%d %i", (0xFFFFFFF4, 1 << 40)),
    ]
    told = [formatted(text, values) for text, values in cases]
    assert told == ["-1 5 ff A|    7|ab   |00042|0xc0000000 %", "udp", "-12 1099511627776"]
    assert conversions("%d %5.2s %% %llx") == ["d", "s", "x"]
    with pytest.raises(Misuse, match="no conversion"):
        conversions("%q")


def test_maps_are_read_as_they_lie_in_memory() -> None:
    plan = MapPlan("@", "sum", ("word", "name"), slots=8)
    kind = entry_type(plan)
    memory = bytearray(map_size(plan)[1])
    name = b"udp".ljust(16, b"\0")
    entry = (1).to_bytes(4, "big") + (0xFFFFFFF4).to_bytes(4, "big") + name
    entry += (-5).to_bytes(8, "big", signed=True) + (3).to_bytes(4, "big")  # at 24, a multiple of 8
    memory[2 * kind.itemsize : 2 * kind.itemsize + len(entry)] = entry
    memory[map_size(plan)[0] : map_size(plan)[0] + 4] = (9).to_bytes(4, "big")
    found, lost = read_map(plan, bytes(memory), lambda kind, words: hex(words[0]))
    assert lost == 9
    assert {key: (one.value, one.n) for key, one in found.items()} == {(-12, "udp"): (-5, 3)}
    again, _ = read_map(plan, bytes(memory), lambda kind, words: hex(words[0]))
    both = merged(plan, [found, again])
    assert {key: (one.value, one.n) for key, one in both.items()} == {(-12, "udp"): (-10, 6)}
