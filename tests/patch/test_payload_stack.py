"""The stack of payloads: balanced along every way, not deeper than the kernel's, without recursion."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from kgdbpatch.errors import BadPatch, Refused, UnknownSymbol
from kgdbpatch.isa.abi import DARWIN, SYSV
from kgdbpatch.patch.depth import Depth, check_depth, depth
from kgdbpatch.patch.payload import Payload, asm_payload
from kgdbpatch.toolchain.assemble import assemble
from kgdbpatch.toolchain.compile import compile_c, link
from kgdbpatch.toolchain.gnu import available, find
from kgdbpatch.toolchain.support import FLAGS

needs_gcc = pytest.mark.skipif(not available("gcc"), reason="powerpc-linux-gnu-gcc is not installed")
AT = 0x1500_0000


def payload(source: str, stack: int = 8192) -> Payload:
    def words(address: int) -> list[int]:
        code = assemble(source, origin=address, symbols={"func": AT + 0x10_0000})
        return [int(word) for word in np.frombuffer(code, ">u4")]

    return asm_payload(words, AT, SYSV, stack=stack)


@pytest.mark.parametrize(
    "source",
    [
        "stwu r1,-32(r1); nop; addi r1,r1,32",
        "cmpwi r3,0; beq 1f; stwu r1,-16(r1); nop; addi r1,r1,16; 1: nop",
        "stwu r1,-16(r1); cmpwi r3,0; beq 1f; addi r1,r1,16; b 2f; 1: addi r1,r1,16; 2:",
        "li r3,4; mtctr r3; 1: stwu r1,-16(r1); addi r1,r1,16; bdnz 1b",
        "b 1f; addi r1,r1,16; 1: nop",  # never run
        "stwu r1,-16(r1); bl 1f; 1: mflr r3; addi r1,r1,16",
    ],
)
def test_balanced_along_every_way(source: str) -> None:
    assert payload(source).sees_registers


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (
            "cmpwi r3,0; beq 1f; stwu r1,-16(r1); 1: nop; addi r1,r1,16",
            "r1 (is down by|would be 16 above)",
        ),
        ("cmpwi r3,0; bne 1f; stwu r1,-32(r1); nop; 1:", "the payload's end: r1 is down by"),
        ("cmpwi r3,0; stwu r1,-16(r1); beq 1f; addi r1,r1,16; 1:", "the payload's end: r1 is down by"),
        ("li r3,4; mtctr r3; 1: stwu r1,-16(r1); bdnz 1b", r"instruction 3 .*: r1 is down by"),
        ("addi r1,r1,16; stwu r1,-16(r1)", "16 above where it was"),
        ("stwu r1,-16(r1)", "leaves r1 changed by -16"),
        ("mr r1, r3", "only be moved by stwu and addi"),
    ],
)
def test_unbalanced_along_some_way(source: str, reason: str) -> None:
    with pytest.raises(BadPatch, match=reason):
        payload(source)


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("bctr", "call with bctrl"),
        ("blr", "branch to a label behind its last instruction"),
        ("b 0x15100000", "call with bl, and to end early"),
        (".long 0", "every word of an assembler payload is run"),
    ],
)
def test_a_refusal_says_what_would_do(source: str, hint: str) -> None:
    with pytest.raises(BadPatch, match=hint):
        payload(source)


def test_what_refusals_advise_is_accepted() -> None:
    assert payload("mtctr r3; bctrl; bl func; cmpwi r3,0; beq 1f; nop; 1:").calls


def test_a_payload_too_long_for_the_table() -> None:
    assert payload(".rept 60000; nop; .endr").counted is False
    with pytest.raises(BadPatch, match="70,000 instructions; 60,000 are the most"):
        payload(".rept 70000; nop; .endr")


def test_assembler_has_the_same_stack() -> None:
    with pytest.raises(Refused, match=r"takes 7,168 bytes .* 8,192 bytes, of which a payload may take 6,144"):
        payload("stwu r1,-7168(r1); addi r1,r1,7168")
    assert payload("stwu r1,-7168(r1); addi r1,r1,7168", stack=16384)


SOURCE = """
#include <stdarg.h>
int printf(const char *, ...);
#define USE(a) __asm__ volatile("" :: "r"(a) : "memory")
#define NOINLINE __attribute__((noipa)) static
NOINLINE int leaf(int n) { char a[20]; USE(a); return a[n] * 3; }
NOINLINE int small(int n) { char a[100]; USE(a); return a[n] + leaf(n) + 1; }
NOINLINE int large(int n) { char a[40000]; USE(a); return a[n] + small(n) + 2; }
NOINLINE int list(const char *f, ...)
{
    va_list l;
    va_start(l, f);
    int n = va_arg(l, int);
    va_end(l);
    return n;
}
NOINLINE int chosen(int n)
{
    char a[300];
    USE(a);
    switch (n) {
    case 0: return small(4) + 1;
    case 1: return a[7];
    case 2: return leaf(n) * 7;
    case 3: return 99;
    case 4: { char b[900]; USE(b); return b[3] + small(n); }
    case 5: return a[n] * 5;
    }
    return -1;
}
NOINLINE int early(int n)
{
    if (n < 3) return n;
    char a[2000];
    USE(a);
    return a[n] + list("", n) + chosen(n);
}
int f(int n) { int a[4]; USE(a); return a[1] + early(n) + large(n) + small(n); }
"""


def linked_depth(path: Path, entry: str | None = None, calls: bool = False) -> Depth:
    def resolve(name: str) -> int:
        if calls:
            return 0xC000_0000
        raise UnknownSymbol(name, "the kernel")

    made = link(compile_c(path, entry=entry), AT, resolve, abi=SYSV)
    text = np.frombuffer(made.code[: made.text_size], ">u4").tolist()
    return depth(text, AT, {n: a for n, a in made.symbols.items() if a < AT + made.text_size}, path.name)


def reported(path: Path, scratch: Path, level: str) -> dict[str, int]:
    """Return the compiler's own word on the functions' frames (-fstack-usage)."""
    options = [*FLAGS, level, "-fstack-usage", "-c", "-o", str(scratch / "usage.o")]
    options += ["-isystem", subprocess.getoutput(f"{find('gcc')} -print-file-name=include")]
    subprocess.run([find("gcc"), *options, str(path)], check=True, cwd=scratch)
    rows = (line.split("\t") for line in (scratch / "usage.su").read_text().splitlines())
    return {row[0].rpartition(":")[2]: int(row[1]) for row in rows}


@needs_gcc
@pytest.mark.parametrize("level", ["-O0", "-O1", "-O2", "-Os"])
def test_the_compilers_own_word(tmp_path: Path, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kgdbpatch.toolchain.cc.FLAGS", (*FLAGS, level))
    path = tmp_path / "f.c"
    path.write_text(SOURCE)
    frame = reported(path, tmp_path, level)
    small = frame["small"] + frame["leaf"]
    chosen = frame["chosen"] + max(small, frame["leaf"])
    early = frame["early"] + max(frame["list"], chosen)
    wanted = frame["f"] + max(early, frame["large"] + small, small)
    assert linked_depth(path) == Depth(wanted, calls=chosen_by_table(path))


def chosen_by_table(path: Path) -> bool:
    """Tell whether the payload jumps through CTR, which may be a call as well."""
    made = link(compile_c(path), AT, lambda _: 0, abi=SYSV)
    return bytes.fromhex("4e800420") in made.code


@needs_gcc
@pytest.mark.parametrize(
    ("source", "ring"),
    [
        ('NOINLINE int g(int n) { return n < 2 ? 1 : n * g(n - 1) + printf(""); }', "g ─► g"),
        (
            "NOINLINE int h(int); NOINLINE int g(int n) { return n + h(n) * 3; }\n"
            'NOINLINE int h(int n) { return n ? g(n - 1) + printf("") : 7; }',
            r"(g ─► h ─► g|h ─► g ─► h)",
        ),
        ("NOINLINE int g(int n) { char a[n]; USE(a); return a[n - 1]; }", "known only when it runs"),
    ],
)
def test_no_bound(tmp_path: Path, source: str, ring: str) -> None:
    path = tmp_path / "f.c"
    head = re.split(r"(?m)^NOINLINE", SOURCE)[0]
    path.write_text(f"{head}{source}\nint f(int n) {{ return g(n) + 1; }}")
    with pytest.raises(Refused, match=ring) as refused:
        linked_depth(path, "f", calls=True)
    assert refused.value.rule in {"recursion", "stack depth"}


@needs_gcc
def test_a_tail_call_of_itself_is_a_loop(tmp_path: Path) -> None:
    path = tmp_path / "f.c"
    path.write_text("int f(int n, int s) { return n ? f(n - 1, s + n) : s; }")
    assert linked_depth(path).own < 64


@needs_gcc
@pytest.mark.parametrize("abi", [SYSV, DARWIN])
def test_veneers_are_calls_not_recursion(tmp_path: Path, abi: object) -> None:
    path = tmp_path / "f.c"
    path.write_text('int printf(const char *, ...); int f(int n) { return printf("%d", n) + printf("!"); }')
    made = link(compile_c(path), AT, lambda _: 0x3000, abi=abi)  # type: ignore[arg-type]
    text = np.frombuffer(made.code[: made.text_size], ">u4").tolist()
    found = depth(text, AT, made.symbols, "f.c")
    assert found.calls
    assert found.own < 128


def test_kernel_functions_are_allowed_a_quarter() -> None:
    check_depth(6144, 8192, calls=False, what="x")
    check_depth(4096, 8192, calls=True, what="x")
    with pytest.raises(Refused, match=r"6,160 bytes .* 8,192 bytes, of which a payload may take 6,144"):
        check_depth(6160, 8192, calls=False, what="x")
    with pytest.raises(
        Refused, match=r"8,208 bytes of stack and kernel functions .* allowed 4,096"
    ) as refused:
        check_depth(8208, 16384, calls=True, what="x")
    assert refused.value.rule == "stack depth"
