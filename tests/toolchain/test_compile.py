from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kgdbpatch.errors import BadPatch, Misuse, UnknownSymbol
from kgdbpatch.isa.abi import DARWIN, SYSV
from kgdbpatch.isa.decode import Kind, decode
from kgdbpatch.toolchain.compile import CObject, Linked, compile_c, link
from kgdbpatch.toolchain.gnu import ToolMissing, available

pytestmark = pytest.mark.skipif(not available("gcc"), reason="powerpc-linux-gnu-gcc is not installed")

EXAMPLES = Path(__file__).parents[2] / "examples"
FAR = 0x1500_0000
SYMBOLS = {"printf": 0x0000_3000, "netisr": 0x0002_8764, "_printk": 0xC000_1000, "near": FAR + 0x10_0000}

Compile = Callable[..., CObject]


def resolve(name: str) -> int:
    if name not in SYMBOLS:
        raise UnknownSymbol(name, "mach_kernel", ("netisr",) if name.startswith("net") else ())
    return SYMBOLS[name]


@pytest.fixture
def c(tmp_path: Path) -> Compile:
    def compile_text(text: str, name: str = "payload.c", **options: object) -> CObject:
        (tmp_path / name).write_text(text)
        return compile_c(tmp_path / name, **options)  # type: ignore[arg-type]

    return compile_text


def instructions(linked: Linked) -> list[tuple[str, int | None]]:
    words = [int.from_bytes(linked.code[i : i + 4], "big") for i in range(0, linked.text_size, 4)]
    decoded = [decode(word, linked.address + 4 * i) for i, word in enumerate(words)]
    return [(instruction.mnemonic, instruction.target) for instruction in decoded]


@pytest.mark.parametrize(("file", "address"), [("packet_counter.c", FAR), ("udp_probe.c", 0xBF00_0000)])
def test_examples_compile_without_a_warning(
    file: str, address: int, caplog: pytest.LogCaptureFixture
) -> None:
    compiled = compile_c(EXAMPLES / file)
    assert compiled.entry == Path(file).stem
    linked = link(compiled, address, resolve)
    assert linked.entry == address
    assert caplog.records == []


def test_the_papers_figure_3() -> None:
    compiled = compile_c(EXAMPLES / "packet_counter.c")
    assert compiled.needed == ("netisr", "printf")
    linked = link(compiled, FAR, resolve)
    text = b"KernMonitor/packet_counter: netisr value: 0x%08x | %d\n\0"
    assert text in linked.code[linked.text_size : linked.constant_size]
    counter = next(address for name, address in linked.symbols.items() if name.startswith("counter"))
    assert counter == FAR + linked.constant_size
    assert linked.code[linked.constant_size :] == bytes(4)


def test_constant_part_first_then_data_then_zeros(c: Compile) -> None:
    compiled = c(
        "int zeroed[8]; int data = 0x11223344; const int fixed = 0x55667788;\nint f(void) { return fixed; }"
    )
    linked = link(compiled, FAR, resolve)
    constant, writable = linked.code[: linked.constant_size], linked.code[linked.constant_size :]
    assert bytes.fromhex("55667788") in constant[linked.text_size :]
    assert bytes.fromhex("11223344") in writable
    assert len(writable) >= 36
    assert linked.constant_size % 16 == 0
    at = linked.symbols["zeroed"] - linked.address
    assert linked.code[at : at + 32] == bytes(32)
    assert at >= linked.constant_size


def test_only_zeroed_data(c: Compile) -> None:
    linked = link(c("int buffer[100]; int *f(void) { return buffer; }"), FAR, resolve)
    assert linked.code[linked.constant_size :] == bytes(400)


def test_no_data_at_all(c: Compile) -> None:
    linked = link(c("int f(void) { return 1; }"), FAR, resolve)
    assert linked.constant_size == len(linked.code) == linked.text_size == 8


def test_addresses_are_those_of_the_place(c: Compile) -> None:
    compiled = c("static int n; int *f(void) { return &n; }")
    for address in (FAR, 0xBF00_0000, 0x7FFF_FFF0):
        linked = link(compiled, address, resolve)
        (high, _), (low, _), _ = instructions(linked)
        assert (high, low) == ("addis", "addi")
        words = [int.from_bytes(linked.code[i : i + 4], "big") & 0xFFFF for i in (0, 4)]
        made = (words[0] << 16) + ((words[1] ^ 0x8000) - 0x8000)
        assert made == next(v for k, v in linked.symbols.items() if k.startswith("n"))
        assert address < made < address + len(linked.code)


class TestCalls:
    SOURCE = "extern void near(void), printf(void); int x; void f(void) { near(); printf(); x++; }"

    def test_within_reach_they_are_direct(self, c: Compile) -> None:
        calls = [target for name, target in instructions(link(c(self.SOURCE), FAR, resolve)) if name == "bl"]
        assert calls[0] == SYMBOLS["near"]

    def test_out_of_reach_they_go_through_a_veneer(self, c: Compile) -> None:
        linked = link(c(self.SOURCE), FAR, resolve)
        calls = [target for name, target in instructions(linked) if name == "bl"]
        veneer = calls[1]
        assert veneer is not None
        assert FAR <= veneer < FAR + linked.text_size
        body = instructions(linked)[(veneer - FAR) // 4 :]
        assert [name for name, _ in body] == ["addis", "ori", "mtctr", "bcctr"]
        assert linked.code[veneer - FAR :][:8] == bytes.fromhex("3d800000 618c3000")

    def test_a_darwin_function_gets_a_darwin_frame(self, c: Compile) -> None:
        linked = link(c(self.SOURCE), FAR, resolve, abi=DARWIN)
        calls = {target for name, target in instructions(linked) if name == "bl"}
        assert not calls & set(SYMBOLS.values())
        (frame,) = {int.from_bytes(linked.code[at - FAR + 8 :][:4], "big") for at in calls if at is not None}
        assert frame >> 16 == 0x9421  # stwu r1, -frame(r1)
        assert 0x10000 - (frame & 0xFFFF) >= DARWIN.linkage
        assert ("bcctrl", None) in instructions(linked)

    def test_data_is_reached_past_veneers(self, c: Compile) -> None:
        source = "extern int netisr; extern void printf(void); int f(void) { printf(); return netisr; }"
        for abi in (SYSV, DARWIN):
            linked = link(c(source), FAR, resolve, abi=abi)
            assert "netisr" not in {name for name, at in linked.symbols.items() if FAR <= at < FAR + 4096}


class TestEntry:
    def test_named_like_the_file(self, c: Compile) -> None:
        assert c("void a(void) {} void probe(void) {} void b(void) {}", name="probe.c").entry == "probe"

    def test_the_only_global_one(self, c: Compile) -> None:
        source = "static int g(int x) { return x; }\nint f(int x) { return g(x); }"
        assert c(source).entry == "f"

    def test_the_named_one(self, c: Compile) -> None:
        compiled = c("int a(void) { return 1; }\nint b(void) { return 2; }", entry="b")
        linked = link(compiled, FAR, resolve)
        assert linked.entry == linked.symbols["b"]
        at = linked.entry - FAR
        assert linked.code[at : at + 4] == bytes.fromhex("38600002")

    def test_one_of_several(self, c: Compile) -> None:
        with pytest.raises(BadPatch, match=r"which function is the entry\? name it with --entry: a, b"):
            c("void a(void) {} void b(void) {}")

    def test_unknown(self, c: Compile) -> None:
        with pytest.raises(BadPatch, match="no function 'x'; there are: a, b"):
            c("void a(void) {} void b(void) {}", entry="x")

    def test_none(self, c: Compile) -> None:
        with pytest.raises(BadPatch, match="no function to call"):
            c("int x;")


class TestRefusals:
    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("void f(void) { x = 1; }", ":1:16: error: 'x' undeclared"),
            ("\n\nvoid f(void) { g(); }", ":3:16: error: implicit declaration of function 'g'"),
            ("int *f(void) { return 5; }", "error: returning 'int'"),
            ("#include <stdio.h>\n", ":1:10: fatal error: stdio.h: No such file"),
            ("#error broken on purpose\n", "error: #error broken on purpose"),
        ],
    )
    def test_the_compilers_own_words(self, c: Compile, tmp_path: Path, source: str, message: str) -> None:
        with pytest.raises(BadPatch) as error:
            c(source)
        assert str(error.value).startswith(f"{tmp_path / 'payload.c'}:")
        assert message in str(error.value)
        assert "\n" not in str(error.value)
        assert error.value.exit_code == 5

    def test_further_errors_are_notes(self, c: Compile) -> None:
        with pytest.raises(BadPatch, match="'x' undeclared") as error:
            c("void f(void) { x = 1; }\nvoid g(void) { y = 1; }")
        assert any("'y' undeclared" in note for note in error.value.__notes__)

    def test_unknown_symbols_with_close_names(self, c: Compile) -> None:
        compiled = c("extern int netirs; int f(void) { return netirs; }")
        with pytest.raises(BadPatch, match=r"no symbol 'netirs' in mach_kernel; did you mean netisr\?"):
            link(compiled, FAR, resolve)

    def test_unknown_functions(self, c: Compile) -> None:
        compiled = c("extern int nowhere(void); int f(void) { return nowhere() + 1; }")
        with pytest.raises(BadPatch, match=r"no symbol 'nowhere' in mach_kernel$"):
            link(compiled, FAR, resolve)

    def test_floating_point_arithmetic(self, c: Compile) -> None:
        compiled = c("double f(double x) { return x + 1; }")
        with pytest.raises(BadPatch, match=r"floating-point arithmetic \(__adddf3\)"):
            link(compiled, FAR, resolve)

    def test_floating_point_instructions(self, c: Compile) -> None:
        compiled = c('void f(void) { __asm__ volatile("fadd 1,2,3"); }')
        with pytest.raises(BadPatch, match="f: 'fadd f1,f2,f3' uses floating point"):
            link(compiled, FAR, resolve)

    def test_altivec(self, c: Compile) -> None:
        compiled = c('void f(void) { __asm__ volatile(".machine altivec; vaddfp 1,2,3"); }')
        with pytest.raises(BadPatch, match="is no instruction of this CPU"):
            link(compiled, FAR, resolve)

    def test_init_and_exit_calls(self, c: Compile) -> None:
        lists = (("ctors", "a, b"), ("ctors.65435", "early"), ("dtors", "a, b"), ("exitcall.exit", "early"))
        source = "int x;" + "".join(
            f"__attribute__((noinline, used)) static void {name}(void) {{ x = {n}; }}\n"
            for n, name in enumerate(("a", "b", "early"))
        )
        rows = "".join(f'.section .{name},\\"aw\\"; .long {listed};' for name, listed in lists)
        source += f'__asm__("{rows} .text");int f(void) {{ a(); b(); early(); return x; }}\n'
        source += '__attribute__((section(".init.text"))) int init_module(void) { return 1; }\n'
        compiled = c(source, entry="f")
        assert (compiled.begins, compiled.ends) == (True, True)
        one = link(compiled, FAR, resolve)
        for linked in (one, one.moved(FAR + 0x1000)):
            assert linked is not None
            names = {at: name for name, at in linked.symbols.items()}
            assert [call.name for call in linked.first] == ["early", "b", "a", "init_module"]
            assert [call.heeded for call in linked.first] == [False, False, False, True]
            assert [names[at] for at in linked.last] == ["early", "a", "b"]
        nothing = c("int f(void) { return 1; }")
        assert (nothing.begins, nothing.ends, link(nothing, FAR, resolve).init_calls) == (False, False, None)

    def test_an_unaligned_place(self, c: Compile) -> None:
        with pytest.raises(Misuse, match="not a multiple of 16"):
            link(c("void f(void) {}"), FAR + 4, resolve)

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(BadPatch, match="no such file"):
            compile_c(tmp_path / "nothing.c")
        with pytest.raises(BadPatch, match="not a file"):
            compile_c(tmp_path)

    def test_no_compiler(self, c: Compile, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "")
        with pytest.raises(ToolMissing, match="powerpc-linux-gnu-gcc is not installed") as error:
            c("void f(void) {}")
        assert error.value.tool == "powerpc-linux-gnu-gcc"


class TestFreestanding:
    def test_headers_of_the_compiler(self, c: Compile) -> None:
        source = "#include <stdint.h>\n#include <stdarg.h>\n#include <stdbool.h>\n#include <stddef.h>\n"
        compiled = c(source + "uint32_t f(void) { return sizeof(uintptr_t); }")
        assert link(compiled, FAR, resolve).text_size == 8

    def test_headers_beside_the_file(self, c: Compile, tmp_path: Path) -> None:
        (tmp_path / "mine.h").write_text("#define VALUE 7\n")
        assert c('#include "mine.h"\nint f(void) { return VALUE; }').entry == "f"

    def test_headers_elsewhere(self, c: Compile, tmp_path: Path) -> None:
        (tmp_path / "include").mkdir()
        (tmp_path / "include" / "other.h").write_text("#define VALUE 7\n")
        source = "#include <other.h>\nint f(void) { return VALUE; }"
        assert c(source, include_dirs=[tmp_path / "include"]).entry == "f"

    def test_long_division_comes_along(self, c: Compile) -> None:
        compiled = c("unsigned long long f(unsigned long long a, unsigned long long b) { return a / b; }")
        linked = link(compiled, FAR, resolve)
        assert "__udivdi3" in compiled.needed
        assert FAR < linked.symbols["__udivdi3"] < FAR + linked.text_size

    def test_the_kernels_own_division_is_preferred(self, c: Compile) -> None:
        compiled = c("unsigned long long f(unsigned long long a, unsigned long long b) { return a / b; }")
        linked = link(compiled, FAR, lambda _: FAR + 0x1000)
        assert linked.text_size < 64

    def test_every_word_is_an_instruction(self, c: Compile) -> None:
        source = """
            int f(int i) { switch (i) { case 0: return 9; case 1: return f(7); case 2: return 4 * f(2);
            case 3: return 11 + f(1); case 4: return 77; case 5: return f(f(8)); } return i; }"""
        linked = link(c(source), FAR, resolve)
        for index in range(0, linked.text_size, 4):
            word = int.from_bytes(linked.code[index : index + 4], "big")
            assert decode(word).kind not in (Kind.UNKNOWN, Kind.FOREIGN)

    def test_warnings_are_logged(self, c: Compile, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING):
            c("int f(void) { int unused; return 1; }")
        assert any("unused variable 'unused'" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("target", ["750", "7400"])
def test_code_is_made_for_the_cpu_and_uses_no_unit_that_is_off(tmp_path: Path, target: str) -> None:
    source = tmp_path / "sum.c"
    source.write_text(
        "void sum(int *to, const int *from)\n{\n\tfor (int n = 0; n < 64; n++)\n\t\tto[n] += from[n];\n}\n"
    )
    compiled = compile_c(source, target=target)
    assert compiled.target == target
    with pytest.raises(BadPatch, match="-mcpu"):
        compile_c(source, target="no such CPU")
    for word in np.frombuffer(link(compiled, 0x1000, dict[str, int]().__getitem__).code, ">u4").tolist():
        assert decode(word).kind not in (Kind.UNKNOWN, Kind.FOREIGN)
