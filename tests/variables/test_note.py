"""What a patch keeps of its payload's names: found in compiled C, packed, read again, and when damaged."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from kgdbpatch.errors import ComponentDamaged, Misuse, UnknownSymbol
from kgdbpatch.toolchain.compile import compile_c, link
from kgdbpatch.variables import Note, Symbol, framed, pack, unframed, unpack
from kgdbpatch.variables.collect import collect
from kgdbpatch.variables.path import locate, name_at
from kgdbpatch.variables.values import Value, from_bytes

AT = 0x110C_0000
SOURCE = """
typedef unsigned short u16;
enum mode { OFF, ON = 3 };
union both { int whole; char part[4]; };
struct list { struct list *next; struct { u16 a, b; }; union both both; void (*act)(int); };
struct list lists[2] = {{ .a = 1, .b = 2, .act = (void (*)(int))0x1234 }, { .both.part = "abc" }};
static volatile enum mode mode = ON;
static int never = 5, written;
const char title[] = "netisr";
long long wide = -7;
static void helper(void) { static volatile int count = 9; count++; }
void probe(int x)
{
    static int count = 4;
    volatile int local = x;
    helper();
    count += never + local + lists[x & 1].a;
    written = mode;
    if (count == 7) count = 0;
}
"""


def nobody(name: str) -> int:
    raise UnknownSymbol(name, "no kernel")


@pytest.fixture(scope="module")
def note() -> Note:
    linked = link(compile_c(SOURCE), AT, nobody)
    names = collect(linked.file, len(linked.code), linked.constant_size, "<c>")
    return Note("<c>", 1_000_000_000, tuple(names[0]), tuple(names[1]), (3, 5))


def value(note: Note, path: str) -> Value:
    linked, place = link(compile_c(SOURCE), AT, nobody), locate(path, note, "patch 1")
    return from_bytes(place.shape, linked.code[place.offset :])


def test_variables_are_found_with_their_types(note: Note) -> None:
    assert value(note, "lists[0].b") == 2
    assert value(note, "lists[1].both.part") == "abc"
    assert value(note, "lists[1].both.whole") == int.from_bytes(b"abc\0", "big")
    assert value(note, "lists[0].act") == 0x1234
    assert value(note, "mode") == 3
    assert value(note, "title") == "netisr"
    assert value(note, "wide") == -7
    assert value(note, "probe::count") == 4
    assert value(note, "helper::count") == 9
    types = {one.name: one.shape.text for one in note.variables if one.offset is not None}
    assert types["lists"] == "struct list [2]"
    assert types["mode"] == "volatile enum mode"
    assert "local" not in types
    constant = {one.name for one in note.variables if one.constant}
    assert constant == {"title"}
    assert {(one.name, one.exported) for one in note.functions} >= {("probe", True)}


def test_names_of_places(note: Note) -> None:
    place = locate("lists[1].both.part", note, "patch 1")
    assert name_at(note, place.offset) == "lists[1].both.whole"
    assert name_at(note, locate("probe::count", note, "patch 1").offset) == "probe::count"
    assert name_at(note, 0) is None


@pytest.mark.parametrize(
    ("path", "kind", "said"),
    [
        ("list", UnknownSymbol, "no symbol 'list' in patch 1; did you mean lists?"),
        ("count", Misuse, "'count' is ambiguous in patch 1: helper::count, probe::count"),
        ("never", Misuse, "declare it volatile, or not static"),
        ("written", Misuse, "declare it volatile, or not static"),
        ("wide.x", Misuse, "'wide' has no members: it is long long int"),
        ("wide[0]", Misuse, "'wide' has no elements"),
        ("lists[2]", Misuse, "'lists' has no element 2: they are 0 to 1"),
        ("lists[0].nxt", UnknownSymbol, "no symbol 'lists[0].nxt' in patch 1"),
        ("lists[-1]", Misuse, "neither .member nor [number]"),
        ("lists..a", Misuse, "neither"),
        ("", Misuse, "is no variable"),
        ("1+1", Misuse, "is no variable"),
    ],
)
def test_what_is_no_variable(note: Note, path: str, kind: type[Misuse], said: str) -> None:
    with pytest.raises(kind) as error:
        locate(path, note, "patch 1")
    assert said in str(error.value)


def test_it_is_small_and_comes_back(note: Note) -> None:
    packed = pack(note)
    assert len(packed) < 700
    assert unpack(packed) == note
    framed_note = framed(packed, 96)
    assert len(framed_note) % 16 == 0
    assert unframed(b"\x55" * 64 + framed_note) == (96, packed)


def test_damage_is_told(note: Note) -> None:
    memory, choice = bytes(64) + framed(pack(note), 96), random.Random(1)
    for _ in range(300):
        damaged = bytearray(memory)
        damaged[choice.randrange(80, len(memory))] ^= 1 << choice.randrange(8)
        try:
            payload, packed = unframed(bytes(damaged))
        except ComponentDamaged:
            continue
        assert packed == pack(note), "the padding, or where the payload begins"
        assert unpack(packed) == note
        assert payload != 96 or damaged[-16:] == memory[-16:]
    for rubbish in (b"", bytes(16), b"x" * 3):
        with pytest.raises(ComponentDamaged):
            unframed(rubbish)
        with pytest.raises(ComponentDamaged):
            unpack(rubbish)


def test_a_payload_of_several_functions(tmp_path: Path) -> None:
    source = tmp_path / "my-probe.c"
    source.write_text("int hits;\nvoid count(void) { hits++; }\nvoid probe(void) { count(); }\n")
    linked = link(compile_c(source, entry="probe"), AT, nobody)
    variables, functions = collect(linked.file, len(linked.code), linked.constant_size, str(source))
    assert [(one.name, one.scope, one.exported) for one in variables] == [("hits", "", True)]
    assert Symbol("count", 0, exported=True) in functions
