from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from kgdbpatch.errors import BadPatch, Misuse, UnknownSymbol
from kgdbpatch.isa.decode import decode
from kgdbpatch.toolchain.assemble import Engine, assemble
from kgdbpatch.toolchain.gnu import available
from kgdbpatch.toolchain.keystone_as import FORMS, RANGES

SYMBOLS = {"printf": 0x3000, "netisr": 0x2233_8765, "near": 0x1500_0100}
gnu_as = pytest.mark.skipif(not available("as"), reason="powerpc-linux-gnu-as is not installed")
both = pytest.mark.parametrize("engine", [pytest.param("gnu", marks=gnu_as), "keystone"])

CORPUS = """
    # what payloads are made of
    lis r3, netisr@ha ; lwz r4, netisr@l(r3)
    lis %r5, netisr@h ; ori r5, %r5, netisr@l
    addi 6, 6, 1
    lwz r7, netisr+4@l(r3)
    addis r8, r8, near+0x8000@ha
    stwu r1, -32(sp) ; mflr r0 ; stw r0, 36(r1)
    cmpwi r3, 0
    cmpwi cr7, r3, -1
    cmplw cr2, r3, r4
1:  beq 2f
    bne cr7, 1b
    bgt cr2, 0x15000008
    bl near
    b near+8
    bdnz 1b
    ba 0x1000
    bla 0xfffffffc
    bc 12, 2, 1b
2:  crclr 4*cr1+eq
    crset 6 ; cror 4*cr7+lt, gt, 31
    mfcr r0 ; mtcrf 0xff, r0 ; mtcrf 128, r12
    rlwinm. r3, r4, 5, 6, 7 ; rlwimi r3,r4,31,0,31
    slwi r3,r3,2 ; srwi r4,r4,31 ; clrlwi r5,r5,16
    stmw r28, -16(r1)
    lwarx r3, 0, r4 ; stwcx. r3, 0, r4
    mtspr 26, r3 ; mfspr r3, 27 ; mfmsr r3
    dcbf 0, r3 ; sync ; icbi 0, r3 ; isync
    li r3, -1 ; lis r3, 0xffff ; lis r4, -1
    sub r3, r4, r5 ; subi r3, r4, 5 ; not. r3, r4 ; mr r3, r4
end: lwz r0, 36(r1) ; mtlr r0 ; addi r1, r1, 32
    .set offset, 2*(3+1)
    lwz r3, offset(r4) ; lwz r3, end-2b(r4) ; b . ; b .+8
    beqlr ; blr ; bctr ; bctrl ; bgelr cr3
    .long 0x12345678, netisr, end
    nop /* done
    over two lines */ ; nop
"""


def code(source: str, engine: Engine = "auto", origin: int = 0x1500_0000) -> list[int]:
    out = assemble(source, origin=origin, symbols=SYMBOLS, filename="x.s", engine=engine)
    return [int.from_bytes(out[i : i + 4], "big") for i in range(0, len(out), 4)]


@gnu_as
@pytest.mark.parametrize("origin", [0x1500_0000, 0x1500_0004, 0x14FF_FFF0])
def test_both_engines_agree_on_the_corpus(origin: int) -> None:
    gnu = code(CORPUS, "gnu", origin)
    assert gnu == code(CORPUS, "keystone", origin)
    assert len(gnu) == 67


def _spelled(kind: str, value: int, base: int) -> str:
    if kind in "dw":
        return f"{value}({f'r{base}' if base else '0'})"
    return f"r{value}" if kind in "re" or (kind == "a" and value) else str(value)


def _limits(kind: str) -> tuple[int, int]:
    return RANGES["s" if kind in "dw" else kind]


def _lines(choose: random.Random) -> Iterator[str]:
    """Yield every form that keystone is trusted with: lowest, highest and random operands."""
    for mnemonic, forms in FORMS.items():
        for form in forms:
            for pick in (lambda low, _: low, lambda _, high: high, choose.randint, choose.randint):
                values = [pick(*_limits(kind)) for kind in form]
                base = choose.randint(1, 31)
                if form in {"rw", "rer"}:  # the base must not be the target, too
                    values[0] = base ^ 1 if form == "rw" else values[1] ^ 1
                operands = [_spelled(kind, value, base) for kind, value in zip(form, values, strict=True)]
                yield f"{mnemonic} {', '.join(operands)}".strip()


@gnu_as
def test_both_engines_agree_on_every_form() -> None:
    lines = list(_lines(random.Random(7)))
    assert len(lines) > 500
    rows = zip(lines, code("\n".join(lines), "gnu"), code("\n".join(lines), "keystone"), strict=True)
    assert [row for row in rows if row[1] != row[2]] == []


def test_keystone_is_not_asked_what_it_would_truncate() -> None:
    count = 0
    for mnemonic, forms in FORMS.items():
        for form in forms:
            for wrong in range(len(form)):
                for beyond in (_limits(form[wrong])[0] - 1, _limits(form[wrong])[1] + 1):
                    values = [_limits(kind)[1] for kind in form]
                    values[wrong] = beyond
                    operands = [_spelled(kind, v, 1) for kind, v in zip(form, values, strict=True)]
                    with pytest.raises(BadPatch, match=r"^x\.s:1: .*(range|r0|symbol)"):
                        code(f"{mnemonic} {', '.join(operands)}", "keystone")
                    count += 1
    assert count > 600


@both
def test_words_decode_to_what_was_written(engine: Engine) -> None:
    words = code("addi r3, r4, 5\nlwz %r3, 8(r1)\nmflr r0\nbl near", engine)
    assert [decode(word).mnemonic for word in words] == ["addi", "lwz", "mflr", "bl"]
    assert decode(words[3], 0x1500_000C).target == SYMBOLS["near"]


@both
def test_symbols_are_the_kernels(engine: Engine) -> None:
    assert code("lis r3, netisr@ha\nlwz r4, netisr@l(r3)", engine) == [0x3C602234, 0x80838765]


@both
def test_darwins_spelling_of_halves(engine: Engine) -> None:
    darwin = (
        "lis r3, ha16(netisr)\nlwz r4, lo16(netisr)(r3)\nlis r5, hi16(near+4)\nori r5, r5, lo16( near+4 )"
    )
    gnu = "lis r3, netisr@ha\nlwz r4, netisr@l(r3)\nlis r5, near+4@h\nori r5, r5, near+4@l"
    assert code(darwin, engine) == code(gnu, engine)


@both
def test_symbols_may_come_from_a_function(engine: Engine) -> None:
    asked: list[str] = []

    def lookup(name: str) -> int:
        asked.append(name)
        return 0x1500_0010

    assert assemble("bl somewhere", origin=0x1500_0000, symbols=lookup, engine=engine) == b"\x48\0\0\x11"
    assert set(asked) == {"somewhere"}


@both
def test_a_number_given_to_a_branch_is_an_address(engine: Engine) -> None:
    for text in (
        "b 0x15000010",
        "b 352321552",
        "x: y: b 0x15000010",
        "beq cr0, 0x15000010",
        "nop; bl 0X15000010",
    ):
        words = code(text, engine)
        last = decode(words[-1], 0x1500_0000 + 4 * len(words) - 4)
        assert last.target == 0x1500_0010, text


@both
def test_the_empty_payload(engine: Engine) -> None:
    assert code("", engine) == code("# nothing\n\n", engine) == []


@both
@pytest.mark.parametrize(
    ("source", "line", "message"),
    [
        ("nop\nfoo r3", 2, "foo"),
        ("nop\nnop\nlwz r3, 40000(r1)", 3, "range"),
        ("addi r3, r4", 1, "operand"),
        ("addi r32, r4, 1", 1, ""),
        ("addi r3, r4, 1, 2", 1, ""),
        ("nop\nbl printf", 2, "reach"),
        ("\n\nbeq cr7, 0x16000000", 3, "reach"),
        ("nop\nlwz r3, 4(r0)", 2, "r0 as"),
        ("nop\nbl netirs", 2, "no symbol 'netirs'"),
        ("# netirs\nlis r3, netirs@ha", 2, "no symbol 'netirs'"),
        ("nop\nlwz r3, 4(r4", 2, ""),
        ("a: nop\na: nop", 2, "already defined"),
        ("vaddfp v1, v2, v3", 1, "vaddfp"),
        ("mtcrf 256, r3", 1, "range"),
        ("b 0x15000002", 1, ""),
    ],
)
def test_errors_name_file_and_line(engine: Engine, source: str, line: int, message: str) -> None:
    with pytest.raises(BadPatch) as error:
        code(source, engine)
    text = str(error.value)
    assert text.startswith(f"x.s:{line}: ")
    assert message in text
    assert "\n" not in text
    assert error.value.exit_code == 5


@gnu_as
def test_further_errors_are_notes() -> None:
    with pytest.raises(BadPatch, match=r"x\.s:1: unrecognized opcode: `foo'") as error:
        code("foo\nbar\nbaz", "gnu")
    notes = error.value.__notes__
    assert notes == ["x.s:2: unrecognized opcode: `bar'", "x.s:3: unrecognized opcode: `baz'"]


@gnu_as
@pytest.mark.parametrize("section", [".data", ".bss", '.section .rodata,"a"', '.section mine,"aw"'])
def test_only_code_is_a_payload(section: str) -> None:
    with pytest.raises(BadPatch, match=r"may use the section \.text only"):
        code(f"nop\n{section}\n.space 4", "gnu")


@gnu_as
def test_half_an_instruction() -> None:
    with pytest.raises(BadPatch, match="middle of an instruction"):
        code(".byte 1, 2, 3", "gnu")


@gnu_as
def test_macros_and_alignment() -> None:
    source = ".macro bump reg\n addi \\reg, \\reg, 1\n.endm\nbump r3\nbump r4\n.p2align 4"
    assert code(source, "gnu", 0x1500_0004)[:2] == [0x38630001, 0x38840001]


@gnu_as
def test_a_macro_that_never_ends() -> None:
    with pytest.raises(BadPatch, match="macros nested too deeply"):
        code(".macro m\nm\n.endm\nm", "gnu")


@gnu_as
def test_include_is_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "part.s").write_text("addi r3, r3, 1\n")
    out = assemble('.include "part.s"', origin=0, filename=str(tmp_path / "x.s"), engine="gnu")
    assert out == bytes.fromhex("38630001")


def test_keystone_says_what_it_cannot_do() -> None:
    with pytest.raises(BadPatch, match="not trusted with this; install GNU as"):
        code("evaddw r3, r4, r5", "keystone")
    with pytest.raises(BadPatch, match=r"\.macro needs GNU as"):
        code(".macro m", "keystone")


@pytest.mark.parametrize("text", [".set x, x\nli r3, x", ".set x, y\n.set y, x\nli r3, x"])
def test_keystone_never_hangs_on_definitions(text: str) -> None:
    with pytest.raises(BadPatch, match="defined by itself"):
        code(text, "keystone")


def test_without_gnu_as_keystone_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert code("addi r3, r4, 5\nbl near") == [0x38640005, 0x480000FD]


def test_a_place_that_is_none() -> None:
    with pytest.raises(Misuse, match="no place for code"):
        code("nop", origin=2)


def test_no_such_engine() -> None:
    with pytest.raises(Misuse, match="no assembler 'masm'"):
        assemble("nop", origin=0, engine="masm")  # type: ignore[arg-type]


@both
def test_the_kernels_close_names(engine: Engine) -> None:
    def lookup(name: str) -> int:
        raise UnknownSymbol(name, "mach_kernel", ("_netisr",))

    with pytest.raises(BadPatch, match=r"x\.s:1: no symbol 'netirs' in mach_kernel; did you mean _netisr"):
        assemble("bl netirs", origin=0, symbols=lookup, filename="x.s", engine=engine)


@both
def test_the_same_source_for_other_kernels_and_places(engine: Engine) -> None:
    """What is kept of an earlier run is of the same symbols and the same place."""
    placed = [
        assemble("bl here", origin=origin, symbols={"here": address}, engine=engine)
        for origin, address in ((0x1000, 0x1010), (0x1000, 0x1020), (0x1010, 0x1020), (0x1000, 0x1010))
    ]
    assert [code.hex() for code in placed] == ["48000011", "48000021", "48000011", "48000011"]
