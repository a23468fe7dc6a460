"""What compilers take for granted comes with a payload: headers, weak names, memcpy, helpers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from patch.matrix.machine import CASE, STACK, STACK_POINTER, needs_machine, private_runtime, run

from kgdbpatch.errors import UnknownSymbol
from kgdbpatch.isa.abi import DARWIN, SYSV
from kgdbpatch.isa.decode import Kind, decode
from kgdbpatch.toolchain.compile import CObject, Linked, compile_c, link
from kgdbpatch.toolchain.gnu import available

pytestmark = pytest.mark.skipif(not available("gcc"), reason="powerpc-linux-gnu-gcc is not installed")

AT = 0x0100_0000
Compile = Callable[..., CObject]


@pytest.fixture
def c(tmp_path: Path) -> Compile:
    def compiled(text: str, entry: str | None = None) -> CObject:
        (tmp_path / "f.c").write_text(text)
        return compile_c(tmp_path / "f.c", entry=entry)

    return compiled


def nothing(name: str) -> int:
    raise UnknownSymbol(name, "the kernel")


def targets(linked: Linked) -> list[int]:
    words = np.frombuffer(linked.code[: linked.text_size], ">u4").tolist()
    decoded = [decode(word, linked.address + 4 * index) for index, word in enumerate(words)]
    branches = (Kind.CALL, Kind.JUMP, Kind.BRANCH)
    return [i.target for i in decoded if i.kind in branches and i.target is not None]


HEADERS = ("limits", "stdint", "stddef", "stdarg", "stdbool", "stdalign", "stdatomic", "float", "iso646")


def test_freestanding_headers(c: Compile) -> None:
    """C11, 4.6: what a freestanding implementation has; limits.h goes on to the C library's."""
    source = "".join(f"#include <{header}.h>\n" for header in HEADERS)
    source += "int f(void) { return INT_MAX - CHAR_BIT; }"
    assert link(c(source), AT, nothing).text_size == 12


def test_the_c_library_is_not_there(c: Compile) -> None:
    with pytest.raises(Exception, match=r"string\.h"):
        c("#include <string.h>\nint f(void) { return 0; }")


WEAK = """
extern int maybe(int) __attribute__((weak)); extern int value __attribute__((weak));
int f(int x)
{
    int sum = 1;
    if (&value) sum += value;
    if (maybe) sum += maybe(sum) * 2;
    sum += maybe(4);
    return maybe(sum);
}
"""


def test_a_weak_name_that_nobody_has_is_0(c: Compile) -> None:
    compiled = c("extern int maybe(int) __attribute__((weak)); int f(int x) { return maybe ? maybe(x) : 7; }")
    assert compiled.weak == {"maybe"}
    assert set(targets(link(compiled, AT, nothing))) <= set(range(AT, AT + 0x100))


def test_calls_of_nobody_lead_nowhere(c: Compile) -> None:
    linked = link(c(WEAK), AT, nothing)
    assert all(AT <= target < AT + linked.text_size for target in targets(linked))


def test_a_weak_name_that_the_kernel_has(c: Compile) -> None:
    linked = link(c(WEAK), AT, lambda name: {"maybe": AT + 0x10_0000, "value": 0x2000}[name])
    assert targets(linked).count(AT + 0x10_0000) == 3


COPIES = """
typedef unsigned char byte;
struct s { int a[40]; }; struct t { char c[37]; };
void *memmove(void *, const void *, unsigned long); int memcmp(const void *, const void *, unsigned long);
void *memset(void *, int, unsigned long); void *memcpy(void *, const void *, unsigned long);
static struct s one, two; static byte big[300], other[300];
static void fill(byte *at, int seed) { for (int i = 0; i < 300; i++) at[i] = seed = seed * 73 + 41; }
static int same(const byte *a, const byte *b, int n)
{
    for (; n--; a++, b++) if (*a != *b) return 0;
    return 1;
}
int f(void)
{
    for (int i = 0; i < 40; i++) one.a[i] = i * 77;
    two = one;
    if (!same((byte *)&one, (byte *)&two, sizeof one)) return 1;
    struct t local = { "zeros behind this" };
    __asm__ volatile("" :: "r"(&local) : "memory");
    for (int i = 18; i < 37; i++) if (local.c[i]) return 2;
    for (int from = 0; from < 6; from++)
        for (int to = 0; to < 6; to++)
            for (int n = 0; n < 40; n += 3) {
                fill(big, n); fill(other, 9);
                if (memcpy(other + to, big + from, n) != other + to) return 3;
                if (!same(other + to, big + from, n)) return 4;
                byte edge = other[to + n]; fill(other, 9);
                if (edge != other[to + n]) return 5;
                fill(big, 5); fill(other, 5);
                memmove(big + 20 + to, big + 20 + from, n);
                if (!same(big + 20 + to, other + 20 + from, n) || !same(big, other, 20)) return 6;
                memset(big + to, 0x1ff, n);
                for (int i = 0; i < n; i++) if (big[to + i] != 0xff) return 7;
                if (big[to + n] != other[to + n] && to + n < 20) return 8;
            }
    fill(big, 3); fill(other, 3);
    if (memcmp(big, other, 300)) return 9;
    other[299] ^= 0x80;
    if ((memcmp(big, other, 300) > 0) != (big[299] > other[299])) return 10;
    return 42;
}
"""


@pytest.mark.guest
@needs_machine[0]
def test_copies_on_the_bare_cpu(c: Compile) -> None:
    linked = link(c(COPIES), AT, nothing, abi=DARWIN)
    words = np.frombuffer(linked.code.ljust(-(-len(linked.code) // 4) * 4, b"\0"), ">u4").tolist()
    memory = {AT + 4 * index: word for index, word in enumerate(words)}
    call = AT + 0x10_0000
    memory |= {call: decode_bl(call, linked.entry), call + 4: 0x6000_0000}
    case = np.zeros(1, CASE)
    case["entry"], case["site"], case["msr"] = call, call + 4, 0x1000
    case["r"][0, 1] = STACK_POINTER["sysv"]
    with private_runtime():
        assert run("copies", memory, case, [], bytes(len(STACK))).results["r"][0, 3] == 42


def decode_bl(at: int, to: int) -> int:
    return 18 << 26 | (to - at) & 0x3FF_FFFC | 1


@pytest.mark.parametrize("name", ["memcpy", "memset", "memmove", "memcmp"])
def test_the_kernels_own_is_preferred(c: Compile, name: str) -> None:
    linked = link(c(COPIES), AT, lambda wanted: AT + 0x10_0000 if wanted == name else nothing(wanted))
    assert AT + 0x10_0000 in targets(linked)
    assert len(linked.code) > len(linked.symbols)


def test_64_bit_helpers(c: Compile) -> None:
    source = (
        "typedef unsigned long long u; u f(u a, u b, int c) { return a / b + a % b + (a >> c) + (a << c); }"
    )
    linked = link(c(source), AT, nothing)
    assert {"__udivdi3", "__umoddi3"} <= linked.symbols.keys()
    assert all(AT <= target < AT + linked.text_size for target in targets(linked))


@pytest.mark.parametrize("abi", [SYSV, DARWIN])
def test_savers_are_never_the_kernels(c: Compile, abi: object) -> None:
    """They keep to no convention, so that no veneer may stand before them."""
    source = (
        "int printf(const char *, ...);\n"
        '__attribute__((optimize("Os"))) int f(int a, int b, int c, int d)\n'
        '{ int s = 0; for (int i = a; i < b; i++) s += printf("%d", i) * printf("%d", s) - d * printf("", c);'
        " return s + a * b + c * d; }"
    )
    compiled = c(source)
    savers = [name for name in compiled.needed if name != "printf"]
    assert savers, "this compiler saves registers in line"
    linked = link(compiled, AT, lambda _: AT + 0x10_0000, abi=abi)  # type: ignore[arg-type]
    assert all(AT <= linked.symbols[name] < AT + linked.text_size for name in savers)
