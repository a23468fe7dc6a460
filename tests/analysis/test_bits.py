"""Which bits of a word of flags compiled code uses, and that none is free where something is unknown."""

from __future__ import annotations

from pathlib import Path

import pytest
from patch.elf import needs_binutils

from kgdbpatch.analysis.bits import BitUses
from kgdbpatch.image import Image
from kgdbpatch.kernel.flag_bits import flag_bits
from kgdbpatch.toolchain.gnu import run
from kgdbpatch.toolchain.support import FLAGS

pytestmark = needs_binutils

HEAD = """
volatile unsigned flags, other;
void first(void), second(void), elsewhere(unsigned);
__attribute__((noinline)) unsigned fetch_or(volatile unsigned *p, unsigned m)
{
    unsigned old;
    __asm__ volatile("1: lwarx %0,0,%1; or %0,%0,%2; stwcx. %0,0,%1; bne- 1b"
                     : "=&r"(old) : "r"(p), "r"(m) : "cc", "memory");
    return old;
}
__attribute__((noinline)) void post(unsigned bits) { fetch_or(&flags, bits); elsewhere(7); }
__attribute__((noinline)) void post_again(unsigned bits) { post(bits); other++; }
__attribute__((noinline)) void first(void) { other = 1; }
__attribute__((noinline)) void second(void) { other = 2; }
__attribute__((noinline)) void elsewhere(unsigned n) { other = n; }
"""


def uses(tmp_path: Path, body: str) -> tuple[BitUses, Image]:
    source, linked = tmp_path / "flags.c", tmp_path / "flags"
    source.write_text(HEAD + body + "\nvoid _start(void) { other = 3; }\n")
    done = run("gcc", *FLAGS, "-nostdlib", "-static", "-Wl,-e,_start", "-o", linked, source, about="flags.c")
    assert done.returncode == 0, done.stderr
    image = Image.load(linked)

    def words(address: int, count: int) -> object:
        section = next(one for one in image.code_sections() if address in one)
        start = (address - section.address) // 4
        return image.words(section)[start : start + count]

    return flag_bits(image, words, image.lookup("flags")), image  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "tests", "sets", "clears"),
    [
        ("void f(void) { if (flags & 8) first(); }", 8, 0, 0),
        ("void f(void) { if (flags & 0x80000000) first(); }", 1 << 31, 0, 0),
        ("void f(void) { if (!(flags & 0x30000)) first(); }", 0x30000, 0, 0),
        ("void f(void) { flags |= 0x12; }", 0, 0x12, 0),
        ("void f(void) { flags &= ~0x300; }", 0, 0, 0x300),
        ("void f(void) { flags = 5; }", 0, 5, 0),
        ("void f(void) { if (flags) first(); }", 0, 0, 0),
        ("void f(void) { if (flags == 0x40) first(); }", None, 0, 0),
        ("unsigned f(void) { return flags >> 4 & 3; }", 0x30, 0, 0),
        ("unsigned f(void) { return (flags & 6) + 1; }", 6, 0, 0),
        ("unsigned f(void) { return ((volatile unsigned char *)&flags)[1] == 9; }", 0xFF0000, 0, 0),
        ("void f(int n) { if (n) post(0x10); else post(0x200); }", 0, 0x210, 0),
        ("void f(void) { post_again(0x400); }", 0, 0x400, 0),
        ("void f(void) { post(1); } void g(void) { post_again(2); }", 0, 3, 0),
    ],
)
def test_what_code_does_to_bits(tmp_path: Path, body: str, tests: int | None, sets: int, clears: int) -> None:
    found, _ = uses(tmp_path, body)
    if tests is None:
        assert found.unknown
        assert found.free == ()
        return
    assert (found.tests, found.sets, found.clears, found.unknown) == (tests, sets, clears, set())
    assert found.free == tuple(bit for bit in range(32) if not (tests | sets | clears) >> bit & 1)


@pytest.mark.parametrize(
    "body",
    [
        "__attribute__((noinline)) unsigned g(void) { return flags; } void f(void) { other = g(); }",
        "void f(unsigned n) { elsewhere(flags); }",
        "void f(void) { other = flags; }",
        "void f(unsigned n) { if (flags >> n & 1) first(); }",
        "void f(unsigned n) { flags |= 1u << n; }",
        "void f(unsigned n) { post(other); }",
        "void (*volatile way)(unsigned) = post;",
        "void f(unsigned n) { post(n); } void (*volatile way)(unsigned) = f;",
    ],
)
def test_no_bit_is_free_where_something_is_not_understood(tmp_path: Path, body: str) -> None:
    found, _ = uses(tmp_path, body)
    assert found.unknown
    assert found.free == ()


def test_where_the_address_goes_is_told(tmp_path: Path) -> None:
    found, image = uses(
        tmp_path, "volatile unsigned *volatile kept; void f(void) { kept = &flags; post(1); }"
    )
    assert [image.symbolize(at).partition("+")[0] for at in found.kept] == ["f"]
    assert found.sets == 1


def test_what_is_called_for_a_bit(tmp_path: Path) -> None:
    body = "void f(void) { if (flags & 4) { flags &= ~4; first(); }"
    body += " if (!(flags & 0x100)) return; second(); }"
    found, image = uses(tmp_path, body)
    assert {bit: [image.symbolize(at) for at in each] for bit, each in found.routines.items()} == {
        2: ["first"],
        8: ["second"],
    }
