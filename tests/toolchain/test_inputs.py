"""Payloads of several files: what is combined, how names meet, what no payload can have."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kgdbpatch.errors import BadPatch, Misuse, OutOfReach, UnknownSymbol
from kgdbpatch.toolchain.compile import Linked, compile_c, link
from kgdbpatch.toolchain.gnu import available

pytestmark = pytest.mark.skipif(not available("gcc"), reason="powerpc-linux-gnu-gcc is not installed")

AT = 0xBF0C_0000
KNOWN = {"low": 0x1_0000, "far": 0x8000_0000, "near": AT + 0x10_0000, "data": 0xC050_0000}
FUNCTION = ".globl f\n.type f,@function\n"


def resolve(name: str) -> int:
    if name not in KNOWN:
        raise UnknownSymbol(name, "vmlinux")
    return KNOWN[name]


Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make an object of C or assembler; a name with .a an archive of objects."""

    def call(name: str, text: str = "", *options: str, members: tuple[Path, ...] = ()) -> Path:
        made = tmp_path / name
        if members:
            subprocess.run(["powerpc-linux-gnu-ar", "rcs", made, *members], check=True)
            return made
        assembler = text.startswith((".", "\n."))
        source = made.with_suffix(".s" if assembler else ".c")
        source.write_text(text)
        command = ["powerpc-linux-gnu-gcc", "-O2", "-g", "-ffreestanding", "-fno-pic", *options]
        subprocess.run([*command, "-c", "-o", made, source], check=True)
        return made

    return call


def linked(*sources: str | Path, **options: str) -> Linked:
    return link(compile_c([*sources], **options), AT, resolve)  # type: ignore[arg-type]


def result(one: Linked, name: str = "f") -> int:
    """Return what a function returns that is ``li r3,N; blr``."""
    at = one.symbols[name] - AT
    assert one.code[at : at + 2] + one.code[at + 4 : at + 8] == bytes.fromhex("3860 4e800020")
    return int.from_bytes(one.code[at + 2 : at + 4], "big")


class TestNames:
    def test_a_strong_one_stands_for_a_weak_one(self, make: Make) -> None:
        user = "int g(void); int f(void) { return g(); }"
        weak = make("weak.o", "__attribute__((weak)) int g(void) { return 1; }")
        assert result(linked(user, weak), "g") == 1
        assert result(linked(user, weak, "int g(void) { return 2; }"), "g") == 2
        assert result(linked(user, "int g(void) { return 2; }", weak), "g") == 2

    def test_common_ones_are_one_as_large_as_the_largest(self, make: Make) -> None:
        small, large = (make(f"{n}.o", f"int shared[{n}];", "-fcommon") for n in (1, 9))
        user = "extern int shared[]; int f(void) { return shared[0]; }"
        assert len(linked(user, small).code) - linked(user, small).constant_size == 4
        one = linked(user, small, large)
        assert len(one.code) - one.constant_size == 36
        assert linked(user, small, "int shared[9] = { 7 };").code.endswith(bytes(32))

    def test_static_ones_are_their_files_own(self) -> None:
        one = linked(
            "static int n = 1; int g(void); int f(void) { return g() + n++; }",
            "static int n = 2; int g(void) { return n++; }",
        )
        assert one.code[one.constant_size :] == bytes.fromhex("00000001 00000002")

    def test_twice_is_told_with_both_places(self, make: Make, tmp_path: Path) -> None:
        a, b = (make(f"{name}.o", f"\n\nint f(void) {{ return {len(name)}; }}") for name in ("a", "bb"))
        with pytest.raises(BadPatch) as error:
            linked(a, b)
        there = f"{tmp_path / 'bb.c'}:3: 'f' is defined twice: {tmp_path / 'a.c'}:3 has it, too"
        assert str(error.value) == there
        for file in (a, b):
            subprocess.run(["powerpc-linux-gnu-strip", "-g", file], check=True)
        with pytest.raises(BadPatch) as error:
            linked(a, b)
        assert str(error.value) == f"{b}: 'f' is defined twice: {a} has it, too"

    def test_members_of_an_archive_are_taken_where_they_are_missing(self, make: Make) -> None:
        one = make("one.o", "int g(void) { return 1; }")
        two = make("two.o", "int h(void) { return 2; } int unused[100] = { 1 };")
        archive = make("lib.a", members=(one, two))
        made = linked("int g(void); int f(void) { return g(); }", archive)
        assert result(made, "g") == 1
        assert "h" not in made.symbols
        assert linked(archive, entry="h").entry
        with pytest.raises(BadPatch, match="no function to call"):
            linked(archive)

    def test_missing_ones_are_told_by_file_line_and_name(self, tmp_path: Path) -> None:
        file = tmp_path / "b.c"
        file.write_text(
            "extern int nowhere(void), noplace;\n\nint g(void)\n{\n\treturn nowhere() + noplace;\n}\n"
        )
        with pytest.raises(BadPatch) as error:
            linked("int g(void); int f(void) { return g(); }", file)
        assert str(error.value) == f"{file}:5: no symbol 'nowhere' in vmlinux"
        assert error.value.__notes__ == [f"{file}:5: no symbol 'noplace' in vmlinux"]

    def test_the_entry_is_the_first_files(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            (tmp_path / f"{name}.c").write_text(
                f"int {name}(void) {{ return 1; }} int {name}x(void) {{ return 2; }}"
            )
        a, b = tmp_path / "a.c", tmp_path / "b.c"
        assert compile_c([a, b]).entry == "a"
        assert compile_c([b, a]).entry == "b"
        assert compile_c([a, b], entry="bx").entry == "bx"
        text = "static int g(void) { return 1; } int (*VAR)(void) = g;"
        with pytest.raises(BadPatch, match="several files have a static function 'g': make the entry global"):
            compile_c([text.replace("VAR", "x"), text.replace("VAR", "y")], entry="g")


REFUSED = {
    "a conditional branch": ("beq low", OutOfReach, "R_PPC_REL14 does not get to 'low' at 0x00010000"),
    "an absolute branch": ("ba near", OutOfReach, "R_PPC_ADDR24 does not get to 'near'"),
    "a conditional absolute one": ("bca 12,2,near", OutOfReach, "R_PPC_ADDR14 does not get to 'near'"),
    "an address in 16 bits": ("li 3,data", OutOfReach, "R_PPC_ADDR16 does not get to 'data'"),
    "half a word": (".reloc .+2,R_PPC_UADDR16,data\nnop", OutOfReach, "R_PPC_UADDR16 does not get to"),
    "small data": ("lwz 3,data@sda21(13)", BadPatch, "'data' (R_PPC_EMB_SDA21) is small data behind r13"),
    "small data of SVR4": ("lwz 3,data@sdarel(13)", BadPatch, "'data' (R_PPC_SDAREL16) is small data"),
    "a table of addresses": ("lwz 3,data@got(30)", BadPatch, "'data' (R_PPC_GOT16) is of position-indep"),
    "the table itself": ("bl _GLOBAL_OFFSET_TABLE_@local-4", BadPatch, "(R_PPC_LOCAL24PC) is of position-in"),
    "a variable of each thread": ("lwz 3,data@tprel(2)", BadPatch, "(R_PPC_TPREL16) is thread-local"),
    "an offset in a section": ("la 3,data@sectoff(3)", BadPatch, "(R_PPC_SECTOFF) is a relocation that no"),
    "what only a loader knows": (".reloc .,R_PPC_RELATIVE,data\nnop", BadPatch, "(R_PPC_RELATIVE) is of"),
    "a name that nobody has": ("bl nowhere", BadPatch, "no symbol 'nowhere' in vmlinux"),
}


@pytest.mark.parametrize("which", REFUSED)
def test_what_no_payload_can_refer_to_is_told_in_one_line(make: Make, tmp_path: Path, which: str) -> None:
    instruction, error, told = REFUSED[which]
    file = make("bad.o", f".text\n{FUNCTION}f: nop\n{instruction}\nblr\n")
    with pytest.raises(BadPatch) as raised:
        linked(file)
    assert type(raised.value) is error
    assert told in str(raised.value)
    line = 6 if ".reloc" in instruction else 5
    assert str(raised.value).startswith(f"{tmp_path / 'bad'}.s:{line}: ")
    assert "\n" not in str(raised.value)


REACHED = {
    "lis 3,data@ha; lwz 3,data@l(3)": ("3c60c050 80630000", True),
    "lis 3,(data+0x8000)@ha; lwz 3,(data+0x8000)@l(3)": ("3c60c051 80638000", True),
    "lis 3,(data+0x8000)@h; ori 3,3,(data+0x8000)@l": ("3c60c050 60638000", True),
    "bl near": ("48100001", True),
    "ba low": ("48010002", False),
    "bla low": ("48010003", False),
    "bl near@plt": ("48100001", True),
    ".reloc .,R_PPC_ADDR14,0x100; bca 12,2,0": ("41820102", False),
    "beq near - 0xfa000": ("41826000", False),
    "addis 3,3,near-.@ha; addi 3,3,near-.@l+4": ("3c630010 38630000", True),
}


@pytest.mark.parametrize("instructions", REACHED)
def test_relocations_are_carried_out_and_moved(make: Make, instructions: str) -> None:
    words, moves = REACHED[instructions]
    text = instructions.replace(";", "\n")
    compiled = compile_c(make("good.o", f".text\n{FUNCTION}f: {text}\nblr\n"))
    one = link(compiled, AT, resolve)
    assert one.code.startswith(bytes.fromhex(words)), one.code.hex()
    there = AT + 0x3_0000
    again = one.moved(there)
    assert (again is not None) == moves
    if again is not None:
        assert again.code == link(compiled, there, resolve).code


SECTIONS = {
    "__bug_table": "has BUG or WARN",
    "__ex_table": "handles faults of its own",
    "__jump_table": "has static branches",
    "__ftr_fixup": "instructions that the kernel fits to its CPU",
    ".init.setup": "for the kernel's start-up",
    "__param": "loader of modules",
    ".data..percpu": "variables of each CPU",
    ".tdata": "thread-local",
    "mine": "section mine: nobody knows what",
    "__mcount_loc": "",
    ".modinfo": "",
    "__lwsync_fixup": "",
    ".data..read_mostly": "",
    ".rodata.cst4": "",
}


@pytest.mark.parametrize("section", SECTIONS)
def test_sections_that_only_a_kernels_loader_understands_are_told(
    make: Make, tmp_path: Path, section: str
) -> None:
    file = make("part.o", f'.section {section},"a"\n.long f\n.text\n{FUNCTION}f: nop\nblr\n')
    if not SECTIONS[section]:
        assert linked(file).entry == AT
        return
    with pytest.raises(BadPatch) as error:
        linked(file)
    assert str(error.value).startswith(f"{tmp_path / 'part.s'}:6: ")
    assert SECTIONS[section] in str(error.value)


POSITION = """
extern int data, near(int);
static int own[3] = { 1, 2, 3 };
int f(int x) { return near(own[x] + data); }
"""


@pytest.mark.parametrize(
    "options",
    [("-fPIC",), ("-Os",), ("-O0",), ("-fcommon",), ("-ffunction-sections", "-fdata-sections"), ("-flto",)],
)
def test_objects_of_other_options(make: Make, options: tuple[str, ...]) -> None:
    file = make("other.o", POSITION, *options)
    if options == ("-flto",):
        with pytest.raises(BadPatch, match="no machine code, it was compiled with -flto"):
            linked(file)
        return
    compiled = compile_c(file)
    one, there = link(compiled, AT, resolve), AT + 0x5_0000
    moved = one.moved(there)
    assert moved is not None
    assert moved.code == link(compiled, there, resolve).code


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\x7fELF\x02\x01\x01" + bytes(60), "ELF file|not for 32-bit big-endian PowerPC"),
        (b"\x7fELF", "damaged ELF file"),
        (b"!<arch>\nnonsense", "no function|malformed|not recognized|bad value"),
        (b"\xce\xfa\xed\xfe" + bytes(60), "not for 32-bit big-endian PowerPC"),
        (b"\xfe\xed\xfa\xce" + bytes(60), "not for 32-bit"),
        (b"", "no function to call"),
    ],
)
def test_files_that_are_no_objects(tmp_path: Path, content: bytes, told: str) -> None:
    file = tmp_path / "odd.o"
    file.write_bytes(content)
    with pytest.raises(BadPatch, match=rf"odd\.o.*({told})"):
        linked(file)


def test_compilers() -> None:
    with pytest.raises(Misuse, match="'tcc' is no compiler that is known: gcc, clang"):
        compile_c("int f(void) { return 1; }", compiler="tcc")


def test_headers_and_macros(tmp_path: Path) -> None:
    (tmp_path / "mine.h").write_text("#define BASE 40\n")
    text = "#include <mine.h>\nint f(void) { return BASE + MORE; }"
    assert result(link(compile_c(text, include_dirs=[tmp_path], defines=["MORE=2"]), AT, resolve)) == 42
