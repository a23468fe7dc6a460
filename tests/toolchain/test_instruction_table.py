"""The whole instruction table, as disassembled, assembled again by both engines."""

from __future__ import annotations

import random
import re
import subprocess
from pathlib import Path

import pytest

from kgdbpatch.errors import BadPatch, UnknownSymbol
from kgdbpatch.isa.altivec import MODEL, ROWS
from kgdbpatch.isa.decode import decode
from kgdbpatch.isa.table import TABLE, Kind, Row
from kgdbpatch.toolchain.assemble import Engine, assemble
from kgdbpatch.toolchain.gnu import available, find

ORIGIN, EACH = 0x1500_0000, 24
# objdump's names for what GNU as knows by others on this CPU
_NAMED = {"hwsync": "sync", "dcbtct": "dcbt", "dcbtstct": "dcbtst", "xnop": "xori r0,r0,0"}
_OTHERS = re.compile(
    r"^(miso|yield|mdoio|mdoom|ptesync|mtocrf|lwsync)\b|^(lu|lux|stu|stux|lm|lsi|lsx) |r12,0,lr"
)
pytestmark = pytest.mark.skipif(not available("as"), reason="GNU as for PowerPC is not installed")


def samples(row: Row, choose: random.Random) -> set[str]:
    """Return texts of a row's words, as far as they are valid forms."""
    found = set()
    for _ in range(EACH):
        word = choose.getrandbits(32) & ~row.mask | row.match
        if choose.random() < 0.5:  # few registers, that the forms which ask for equal ones come
            word = word & ~0x03FFF800 | (word & 0x00210800) | row.match
        if word >> 26 == 16:  # a target that is in reach from all lines of the test
            word = word & ~0xC000 | (0xC000 if word & 0x8000 else 0)
        one = decode(word, ORIGIN)
        if not one.foreign and one.mnemonic == row.mnemonic and not one.text.startswith(".long"):
            found.add(one.text)
    return found


def _here(line: str) -> str:
    """Return a relative branch as one to itself: to GNU as a number is a distance."""
    name = line.split()[0].rstrip("+-")
    return re.sub("0x[0-9a-f]+$", ".", line) if name[0] == "b" and name[-1] != "a" else line


def accepted(lines: list[str], directory: Path) -> list[str]:
    """Return those lines that GNU as takes for this CPU."""
    command = [find("as"), "-mbig-endian", "-a32", "-mppc", "-mregnames", "-o", str(directory / "x.o"), "-"]
    source = "\n".join(map(_here, lines)) + "\n"
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    refused = {int(match[1]) for match in re.finditer(r"\{standard input\}:(\d+): ", done.stderr)}
    return [line for number, line in enumerate(lines, 1) if number not in refused]


def _plain(text: str) -> str:
    name, _, rest = text.partition(" ")
    return f"{_NAMED.get(name, name)} {rest}".strip()


def _words(source: str, engine: Engine, model: str = "") -> list[int]:
    code = assemble(source, origin=ORIGIN, symbols=_nothing, filename="x.s", engine=engine, model=model)
    return [int.from_bytes(code[at : at + 4], "big") for at in range(0, len(code), 4)]


def _nothing(name: str) -> int:
    raise UnknownSymbol(name, "this test")


def test_both_engines_agree_on_the_whole_table(tmp_path: Path) -> None:
    choose, texts = random.Random(11), set[str]()
    for row in TABLE:
        if row.kind is not Kind.UNKNOWN:
            texts |= samples(row, choose)
    lines = sorted({_plain(text) for text in texts if not _OTHERS.search(text)})
    taken = accepted(lines, tmp_path)
    rows = zip(taken, _words("\n".join(taken), "gnu"), _words("\n".join(taken), "keystone"), strict=True)
    assert [f"{line}: 0x{gnu:08x} 0x{ours:08x}" for line, gnu, ours in rows if gnu != ours] == []
    refused = {line.split()[0] for line in lines} - {line.split()[0] for line in taken}
    known = {name for name in refused if name[:2] in ("mf", "mt")}  # registers of later models
    known |= {
        name for name in refused if name.rstrip("+-").strip("la") in ("bc", "bclr", "bcctr")
    }  # their BO
    assert refused - known == {"dcba", "tlbie"}  # a cache the 60x lack; objdump's tlbie rB,rA
    assert len({line.split()[0] for line in taken}) > 300


@pytest.mark.parametrize("engine", ["gnu", "keystone"])
def test_each_engine_makes_the_words_of_altivec(engine: Engine) -> None:
    choose = random.Random(5)
    words = [choose.getrandbits(32) & ~row.mask | row.match for row in ROWS for _ in range(EACH)]
    texts = [decode(word, ORIGIN, MODEL).text for word in words]
    assert [word for word, text in zip(words, texts, strict=True) if text.startswith(".long")] == []
    made = _words("\n".join(texts), engine, MODEL)
    wrong = [
        f"{text}: 0x{one:08x}" for text, word, one in zip(texts, words, made, strict=True) if word != one
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "source",
    ["vspltisb v1,16", "vsldoi v1,v2,v3,16", "dss 4", "vmr v1", "vaddubm v1,v2,v32", "vspltb v1,v2,16"],
)
@pytest.mark.parametrize("engine", ["gnu", "keystone"])
def test_what_is_no_form_of_altivec_is_told(engine: Engine, source: str) -> None:
    with pytest.raises(BadPatch, match=r"x\.s:1: "):
        _words(source, engine, MODEL)


@pytest.mark.parametrize("engine", ["gnu", "keystone"])
def test_a_7xx_has_no_altivec(engine: Engine) -> None:
    assert _words("vmr v1,v2", engine, MODEL) == [0x1022_1484]
    with pytest.raises(BadPatch, match="vmr"):
        _words("vmr v1,v2", engine)
