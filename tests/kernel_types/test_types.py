"""Types read back from what compilers write of a source that is known."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kgdbpatch.errors import BadImage, UnknownSymbol
from kgdbpatch.types import KernelTypes, same_signature

from .conftest import GCC, Compile

SOURCE = """
#undef linux
#undef unix
typedef unsigned int u32; typedef unsigned char u8; typedef _Bool bool;
struct opaque;
typedef struct { int counter; } atomic_t;
struct __attribute__((packed)) odd { u8 a; u32 b; unsigned c:3, d:7; long long e; };
struct __attribute__((aligned(32))) line { int x; };
struct __attribute__((packed)) whole_words { u32 a; u32 b; };
struct inside { u8 first; struct odd odd; struct whole_words later; u8 mark; struct line line; };
enum small { A, B } __attribute__((packed));
enum { NAMELESS = 7 };
struct many {
    struct { int x; union { short y; char z[3]; }; };
    u32 big:20; u32 more:15; bool yes:1;
    enum { ONE = 1, TWO } k;
    enum small tiny;
    void (*handler)(struct opaque *, const char *, ...);
    int (*table[2])(struct many *);
    const struct opaque *const volatile *names[5];
    atomic_t count;
    struct { u8 deep[3]; u32 word; } parts[2], *where;
    struct many *next;
    long double wide;
    union { double d; u8 bytes[8]; } number;
    int linux, unix;
    char tail[];
};
int work(struct many *many, const char *text, long count, atomic_t by)
{ struct inside i; i.first = many->big; return i.first + by.counter + NAMELESS; }
"""
ENUMERATED = "enum sign { MINUS = -5, PLUS = 5 }; enum sign sign(enum sign s) { return s; }"
KINDS = {
    "DWARF 5": ("-O1", "-g"),
    "DWARF 4": ("-O1", "-gdwarf-4", "-gstrict-dwarf"),
    "DWARF 2": ("-O1", "-gdwarf-2", "-gstrict-dwarf"),
    "type units": ("-O1", "-g", "-fdebug-types-section"),
    "compressed": ("-O1", "-g", "-gz"),
    "BTF": ("-O1", "-gbtf"),
}
NAMES = ("many", "odd", "inside", "line", "whole_words", "enum small", "atomic_t", "work")


@pytest.fixture(scope="module")
def plain(compiled: Compile) -> KernelTypes:
    return KernelTypes.of(compiled(SOURCE, *KINDS["DWARF 5"]))


def test_every_kind_of_debug_information_tells_the_same(compiled: Compile, plain: KernelTypes) -> None:
    for kind, options in KINDS.items():
        types = KernelTypes.of(compiled(SOURCE, *options))
        for name in NAMES:
            text, record = plain.declaration(name), repr(plain.record(name))
            if kind == "BTF":  # an array without a length has length 0 in it: nothing tells them apart
                text, record = text.replace("tail[]; ", "tail[0];"), record.replace("char []", "char [0]")
            assert types.declaration(name) == text, kind
            assert repr(types.record(name)) == record, kind


def test_clang(compiled: Compile, plain: KernelTypes) -> None:
    """Its strings are told by number, its base types are called otherwise."""
    if shutil.which("clang") is None:
        pytest.skip("clang is not installed")
    types = KernelTypes.of(compiled(SOURCE, "--target=powerpc-linux-gnu", "-g", compiler="clang"))
    for name in ("many", "odd", "inside"):
        for one, other in zip(types.record(name)["members"], plain.record(name)["members"], strict=True):
            assert (one["name"], one["offset"], one["bit_offset"]) == (
                other["name"],
                other["offset"],
                other["bit_offset"],
            )
    assert same_signature(types.signature("work"), plain.signature("work")) == []


@pytest.mark.parametrize("kind", KINDS)
def test_headers_compile_and_give_the_same_layout(
    compiled: Compile, complaints: Callable[[str], str], kind: str
) -> None:
    """What the compiler makes of the header, bit-fields included, is what it was made from."""
    types = KernelTypes.of(compiled(SOURCE, *KINDS[kind]))
    header = types.header(NAMES)
    assert complaints(header) == ""
    used = "struct many m; struct odd o; struct inside i; struct line l; struct whole_words w; enum small s;"
    again = KernelTypes.of(compiled(header + used, "-g", "-std=gnu17"))
    for name in ("many", "odd", "inside", "line", "whole_words", "enum small", "atomic_t"):
        one, other = types.record(name), again.record(name)
        held = [member for member in other["members"] if not (member["name"] or "").startswith("__padding")]
        assert {**other, "members": _comparable(held)} == {**one, "members": _comparable(one["members"])}


def _comparable(members: list[dict[str, object]]) -> list[dict[str, object]]:
    return [
        {key: one[key] for key in ("name", "offset", "size", "bit_offset", "bit_size")} for one in members
    ]


def test_a_wrong_size_does_not_compile(plain: KernelTypes, complaints: Callable[[str], str]) -> None:
    header = plain.header(["odd"])
    assert "static assertion failed" in complaints(header.replace("u32 b;", "u8 b;"))


def test_names_and_members(plain: KernelTypes) -> None:
    assert plain.find("struct many").size == plain.find("many").size
    assert plain.member("many", "parts").offset == plain.record("many")["members"][10]["offset"]
    assert plain.member("many", "y").offset == 4
    assert plain.member("struct inside", "odd.b").offset == 2
    assert ("struct", "many") in plain.names("ma*")
    assert plain.names("typedef u*") == [("typedef", "u32"), ("typedef", "u8")]
    with pytest.raises(UnknownSymbol, match="did you mean many"):
        plain.find("struct manny")
    with pytest.raises(UnknownSymbol, match="did you mean handler"):
        plain.member("many", "handlr")


def test_negative_values(compiled: Compile) -> None:
    types = KernelTypes.of(compiled(ENUMERATED, "-g"))
    assert types.record("enum sign")["values"] == {"MINUS": -5, "PLUS": 5}
    assert "MINUS = (-4 - 1)" in types.header(["enum sign"])


def test_two_structures_of_one_name(
    compiled: Compile, complaints: Callable[[str], str], tmp_path: Path
) -> None:
    """Two files may have a structure of the same name each; a header with both calls the second otherwise."""
    import subprocess

    parts = [
        compiled(
            f"struct priv {{ {kind} a; enum {{ P = 1 }} e; }}; struct {name} {{ struct priv p; }} {name};",
            "-g",
        )
        for kind, name in (("int", "one"), ("char", "two"))
    ]
    whole = tmp_path / "both.o"
    subprocess.run([GCC, "-r", "-nostdlib", *parts, "-o", whole], check=True)
    header = KernelTypes.of(whole).header(["one", "two"])
    assert "struct priv__2" in header
    assert complaints(header) == ""


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ("int f(struct a *x, unsigned y, const char *z)", None),
        ("int f(struct a *, word, char *)", None),
        ("int f(void *x, enum e y, char *z)", None),
        (
            "int f(struct b *x, unsigned y, char *z)",
            "parameter 1 (x): pointers to other structures: 'struct a *' ",
        ),
        ("int f(struct a **x, unsigned y, char *z)", "parameter 1 (x): pointers to other structures"),
        ("int f(struct a *x, long long y, char *z)", "parameter 2 (y): 4 bytes against 8 bytes"),
        ("int f(struct a *x, char *y, char *z)", "parameter 2 (y): an integer against a pointer"),
        ("int f(struct a *x, float y, char *z)", "parameter 2 (y): an integer against a float number"),
        ("int f(struct a x, unsigned y, char *z)", "parameter 1 (x): a pointer against a struct"),
        ("int f(struct a *x, unsigned y)", "3 parameters against 2"),
        ("int f(struct a *x, unsigned y, char *z, ...)", "only one takes further arguments"),
        ("void f(struct a *x, unsigned y, char *z)", "the result: an integer against void"),
    ],
)
def test_signatures(compiled: Compile, other: str, said: str | None) -> None:
    types = "struct a { int a; }; struct b { int b; }; typedef unsigned long word; enum e { E };"
    first = "int f(struct a *x, unsigned y, const char *z) { return 0; }"
    a = KernelTypes.of(compiled(types + first, "-g", "-std=gnu17")).signature("f")
    body = f"{types}{other.replace('*,', '*p,').replace('word,', 'word q,').replace('*)', '*r)')}"
    b = KernelTypes.of(compiled(body + "{ __builtin_trap(); }", "-g", "-std=gnu17")).signature("f")
    found = same_signature(a, b)
    assert [one.startswith(said or "") for one in found] == ([True] if said else [])


@pytest.mark.parametrize("kind", ["DWARF 5", "BTF"])
def test_damage_is_one_error(compiled: Compile, kind: str, tmp_path: Path) -> None:
    """Whatever byte of the debug information is wrong, or missing, nothing but `BadImage` is raised."""
    import random

    good = compiled(SOURCE, *KINDS[kind]).read_bytes()
    file, chance, said = tmp_path / "bad.o", random.Random(5), list[str]()
    start = good.index(b"\xeb\x9f\x01") if kind == "BTF" else 52
    for _ in range(150):
        bad = bytearray(good)
        for _ in range(chance.randint(1, 6)):
            bad[chance.randrange(start, len(bad))] = chance.randrange(256)
        file.write_bytes(bad[: chance.randint(len(bad) // 2, len(bad))] if chance.random() < 0.2 else bad)
        try:
            types = KernelTypes.of(file)
            for name in NAMES:
                types.declaration(name)
                types.header([name])
                types.record(name)
        except (BadImage, UnknownSymbol) as error:
            said.append(str(error))
    assert len(said) > 10
    assert not any("\n" in one for one in said)
