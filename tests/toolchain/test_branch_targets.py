"""An expression given to a relative branch is an address, however it is spelled, in both engines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kgdbpatch.errors import BadPatch, OutOfReach
from kgdbpatch.isa.decode import decode
from kgdbpatch.patch.request import PatchRequest
from kgdbpatch.toolchain.assemble import Engine, assemble
from kgdbpatch.toolchain.gnu import available

pytestmark = pytest.mark.skipif(not available("as"), reason="powerpc-linux-gnu-as is not installed")
both = pytest.mark.parametrize("engine", ["gnu", "keystone"])

ORIGIN = 0x2000
SYMBOLS = {"func": 0x4_0000, "high": 0xFFFF_0000}


def targets(source: str, engine: Engine, origin: int = ORIGIN) -> list[int | None]:
    code = assemble(source, origin=origin, symbols=SYMBOLS, filename="x.s", engine=engine)
    words = [int.from_bytes(code[at : at + 4], "big") for at in range(0, len(code), 4)]
    return [decode(word, origin + 4 * index).target for index, word in enumerate(words)]


@both
@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("bl 0x5000 /* where; it # is */", 0x5000),
        ("bl 0x5000 # b 0x6000", 0x5000),
        ("bl (0x5000)", 0x5000),
        ("bl +0x5000", 0x5000),
        ("bl 0x5000+8", 0x5008),
        ("bl 2*(0x2800-4)", 0x4FF8),
        ("bl 020000", 0x2000),
        ("bl -0x10000", 0xFFFF_0000),
        (".set T, 0x5000\nbl T", 0x5000),
        ("bl T+4\n.set T, 0x5000", 0x5004),
        ("T = 0x5000; x: bl T", 0x5000),
        ("1: nop; beq cr3, 1b", ORIGIN),
        ("nop; bl .", ORIGIN + 4),
        ("nop; bl .+8", ORIGIN + 12),
        ("nop; nop; bl .-(4+4)", ORIGIN),
        ("a: nop; b: nop; bl 0x3000+b-a", 0x3004),
        ("bl func-8", 0x3_FFF8),
        ("bl high", 0xFFFF_0000),
        ("bdnz 0x2100", 0x2100),
        ("bc 12, 2, 0x2100+4", 0x2104),
    ],
)
def test_one_meaning(engine: Engine, source: str, target: int) -> None:
    assert targets(source, engine)[-1] == target


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (".macro go to\nbl \\to\n.endm\ngo 0x5000", 0x5000),
        (".macro go to\nbl \\to\n.endm\nx: go x", ORIGIN),
        (".macro go to=0x5000\nbl (\\to)+8\n.endm\ngo", 0x5008),
        (".irp to, 0x5000\nbl \\to\n.endr", 0x5000),
        (".macro call\nbl 1f\n.endm\ncall\n1:", ORIGIN + 4),
        ('.if 1\nbl 0x5000; .else; bl 0x6000; .endif; .equ s, "# b 0x7000"', None),
        ("bdnzt 4*cr1+eq, 0x2100", 0x2100),
        ("bl func@local", 0x4_0000),
        ("bl 0x140000/64", 0x5000),
    ],
)
def test_what_only_gnu_as_understands(source: str, target: int | None) -> None:
    if target is None:
        source = source.partition("; .equ")[0]
        target = 0x5000
    assert targets(source, "gnu")[-1] == target


@pytest.mark.parametrize(("hint", "back", "on"), [("+", 0x4082, 0x40A2), ("-", 0x40A2, 0x4082)])
def test_a_hint_means_the_same_in_both_directions(hint: str, back: int, on: int) -> None:
    """The bit tells whether the direction's own guess is reversed (PEM, 4.2.4.2)."""
    source = f"1: nop; bne{hint} 1b; bne{hint} 2f; nop; 2: nop"
    code = assemble(source, origin=ORIGIN, engine="gnu")
    assert [int.from_bytes(code[at : at + 2], "big") for at in (4, 8)] == [back, on]


def test_a_macro_that_makes_up_a_branch() -> None:
    with pytest.raises(BadPatch, match="write the branch out"):
        targets(".macro go cond\nb\\cond 0x2100\n.endm\ngo eq", "gnu")
    assert targets(".macro go cond\nb\\cond func\n.endm\ngo l", "gnu") == [SYMBOLS["func"]]


@both
@pytest.mark.parametrize("source", ["bl 0x5002", "bl 3", "b func+1", "b -1"])
def test_no_word_is_there(engine: Engine, source: str) -> None:
    with pytest.raises(BadPatch, match=r"^x\.s:1: no branch reaches"):
        targets(source, engine)


@both
@pytest.mark.parametrize(("source", "way"), [("bl 0x8000000", "bctrl"), ("b 0x8000000", "label of its own")])
def test_out_of_reach_says_what_would_do(engine: Engine, source: str, way: str) -> None:
    with pytest.raises(OutOfReach, match=rf"^x\.s:2: 0x08000000 is out of branch reach .*{way}"):
        targets(f"nop\n{source}", engine)


@both
@pytest.mark.parametrize("source", ["bl 0x100005000", "bl -0x100000000", "bl r3+", "bl 08"])
def test_no_address(engine: Engine, source: str) -> None:
    with pytest.raises(BadPatch):
        targets(source, engine)


@both
@pytest.mark.parametrize("directive", [".asciz", ".ascii", ".string", "text: .asciz"])
def test_text_is_not_run(engine: Engine, directive: str) -> None:
    with pytest.raises(BadPatch, match=r"x\.s:2: \.\w+: .*text has no place in it; write the payload in C"):
        targets(f'nop\n{directive} "hihihih"', engine)


def test_a_name_given_two_values_is_left_to_gnu_as() -> None:
    source = ".set T, 0x5000\nbl T\n.set T, 0x6000\nbl T"
    assert targets(source, "gnu") == [0x5000, 0x6000]
    with pytest.raises(BadPatch, match="given two values"):
        targets(source, "keystone")


def test_a_comment_in_latin_1(tmp_path: Path) -> None:
    path = tmp_path / "x.s"
    path.write_bytes(b"nop # f\xfcr den Z\xe4hler\n/* \xe9t\xe9 */ bl 0x5000")
    source, _ = PatchRequest(asm=path).assembler()
    for engine in ("gnu", "keystone"):
        assert targets(source, engine)[-1] == 0x5000


@dataclass(frozen=True)
class Expression:
    text: str
    value: int


def number(value: int) -> st.SearchStrategy[Expression]:
    spelled = [f"{value}", f"0x{value:x}", f"0X{value:X}", f"0{value:o}" if value else "0"]
    return st.sampled_from(spelled).map(lambda text: Expression(text, value))


names = st.sampled_from([Expression(n, v) for n, v in (("func", 0x4_0000), ("start", ORIGIN), ("T", 0x5000))])
leaves = st.one_of(st.integers(0, 0x4000).flatmap(number), names)


def joined(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    def difference(one: Expression, two: Expression) -> Expression:
        return Expression(f"{one.text} - ({two.text})", one.value - two.value)

    return st.one_of(
        st.tuples(inner, leaves).map(
            lambda e: Expression(f"{e[0].text}+{e[1].text}", e[0].value + e[1].value)
        ),
        st.builds(difference, inner, st.integers(0, 0x4000).flatmap(number)),
        inner.map(lambda e: Expression(f"({e.text})", e.value)),
        inner.map(lambda e: Expression(f"+({e.text}) /* ; b 4 */", e.value)),
        st.tuples(st.integers(0, 9).flatmap(number), st.integers(0, 99).flatmap(number)).map(
            lambda e: Expression(f"{e[0].text} * {e[1].text}", e[0].value * e[1].value)
        ),
    )


def _plain(expression: Expression) -> bool:
    """Tell whether GNU as can write it: at most one address in it, added."""
    return sum(expression.text.count(name) for name in ("func", "start")) < 2


expressions = st.recursive(leaves, joined, max_leaves=4).filter(_plain)


@settings(max_examples=8, deadline=None)
@given(st.lists(expressions, min_size=20, max_size=40))
def test_generated_operands(found: list[Expression]) -> None:
    found = [expression for expression in found if expression.value % 4 == 0]
    source = ".set T, 0x5000\nstart:\n" + "\n".join(f"bl {expression.text}" for expression in found)
    wanted = [expression.value & 0xFFFF_FFFF for expression in found]
    assert targets(source, "gnu") == wanted
    assert targets(source, "keystone") == wanted


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(["b", "bl", "beq", "bdnz"]), expressions)
def test_both_engines_accept_and_refuse_the_same(mnemonic: str, expression: Expression) -> None:
    answers = []
    for engine in ("gnu", "keystone"):
        try:
            answers.append(targets(f".set T, 0x5000\nstart: {mnemonic} {expression.text}", engine)[0])
        except BadPatch:
            answers.append(None)
    assert answers[0] == answers[1]
    assert answers[0] in (None, expression.value & 0xFFFF_FFFF)
