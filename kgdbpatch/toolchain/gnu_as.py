"""Assemble with GNU as, and link with GNU ld against the kernel's symbols.

To GNU as a number given to a branch is a distance, a label's address is not, and the object does not tell the
two apart. So each relative branch is assembled as one to itself, and its target is written, as the user
spelled it, into a table beside the code; ld makes addresses of them, and the branches are given theirs last.
"""

from __future__ import annotations

import io
import re
import struct
import tempfile
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

from kgdbpatch.errors import BadPatch
from kgdbpatch.isa import altivec, e500, encode, ppc405, ppc440
from kgdbpatch.toolchain.gnu import complaint, link_script, run
from kgdbpatch.toolchain.objects import entries, undefined
from kgdbpatch.toolchain.statements import no_text, out_of_reach, plain

__all__ = ["assemble_gnu"]

# 603/604 is the 750's instruction set; a wrong kind of register is only a warning to GNU as.
_OPTIONS = ("-mbig-endian", "-a32", "-mppc", "-mregnames", "--fatal-warnings", "-g")
# what else such a model has
_UNITS = {
    altivec.MODEL: ("-maltivec",),
    e500.MODEL: ("-me500",),
    ppc440.MODEL: ("-m440",),
    ppc405.MODEL: ("-m405",),
}
# the plan knows of code only
_ONLY_TEXT = "a payload in assembler may use the section .text only"
_MADE_UP = (
    "a macro makes up the name of a branch here, so its target cannot be told from a distance; "
    "write the branch out"
)

_TABLE, _ENTRY = ".kgdbpatch.branches", struct.Struct(">4I")  # place, target, line, hint
_HERE = "7340033"  # the number of a local label that no user writes
_CONDITION = "dnz|dz|dnzt|dnzf|dzt|dzf|t|f|lt|gt|eq|so|un|ge|le|ne|ns|nu|nl|ng"
_BRANCH = re.compile(
    rf"""(?P<labels>\s*(?:(?:[\w.$\\@]+|"[^"]*")\s*:\s*)*)
        (?P<name>b(?:c|{_CONDITION})?l?)(?P<hint>[+-]?)(?![\w.$\\]|\s*[=:])
        (?P<others>\s*(?:[^,]*,)*)(?P<target>[^,]*)""",
    re.VERBOSE | re.IGNORECASE,
)
_BUILT = re.compile(r"\s*(?:[\w.$\\@]+\s*:\s*)*(?:b[\w.]*\\|\\\w)", re.IGNORECASE)
_DOT = re.compile(r"(?<![\w.$\\])\.(?![\w.$])")
_OPERATOR = re.compile(r"@(?:plt|local|notoc)\b", re.IGNORECASE)


def assemble_gnu(
    source: str, origin: int, resolve: Callable[[str, str], int], filename: str, model: str = ""
) -> bytes:
    """Return the code of ``source`` placed at ``origin``, of a CPU ``model``'s instructions; or `BadPatch`.

    ``resolve(name, source)`` gives the address of a name that the source leaves undefined.
    """
    blob, names, built = _object(source, filename, _UNITS.get(model, ()))
    linked = _linked(blob, origin, tuple((name, resolve(name, source)) for name in names), filename)
    size = int.from_bytes(linked[-4:], "big")
    if size % 4:
        raise BadPatch(
            f"{filename}: the payload ends in the middle of an instruction ({size} bytes); data that is "
            "no instruction has its place in a C payload"
        )
    code = bytearray(linked[:size])
    table = linked[size:-4]
    table = table[len(table) % _ENTRY.size :]
    for at, target, line, hinted in _ENTRY.iter_unpack(table):
        word = _branch(code, at - origin, at, target, hinted, f"{filename}:{line}")
        code[at - origin : at - origin + 4] = word.to_bytes(4, "big")
    if built:
        _no_other_branch(code, {at - origin for at, *_ in _ENTRY.iter_unpack(table)}, blob, filename)
    return bytes(code)


def _branch(code: bytearray, offset: int, at: int, target: int, hinted: int, where: str) -> int:
    """Return the word of the branch that GNU as left at an offset as one to itself."""
    word = int.from_bytes(code[offset : offset + 4], "big")
    if target & 3:
        raise BadPatch(f"{where}: no branch reaches 0x{target:x}: not the address of a word")
    distance = ((target - at + 0x8000_0000) & 0xFFFF_FFFF) - 0x8000_0000
    if word >> 26 == 18:
        if not encode.branch_reaches(at, target):
            raise out_of_reach(where, at, target, linked=bool(word & 1))
        return word | distance & 0x03FF_FFFC
    if not -0x8000 <= distance < 0x8000:
        raise out_of_reach(where, at, target, linked=bool(word & 1))
    if hinted and distance < 0:  # a hint is told relative to the direction (PEM, 4.2.4.2)
        word ^= 1 << 21
    return word | distance & 0xFFFC


def _no_other_branch(code: bytearray, known: set[int], blob: bytes, filename: str) -> None:
    """Refuse relative branches that stand in no table and have no relocation: their meaning is not known."""
    from elftools.elf.elffile import ELFFile

    found = entries(ELFFile(io.BytesIO(blob)))
    known = known | {int(one["r_offset"]) & ~3 for table, _, one, _ in found if table.name == ".rela.text"}
    for offset in range(0, len(code), 4):
        word = int.from_bytes(code[offset : offset + 4], "big")
        if word >> 26 in (16, 18) and not word & 2 and offset not in known:
            raise BadPatch(f"{filename}: instruction {offset // 4 + 1}: {_MADE_UP}")


@lru_cache(maxsize=8)
def _object(source: str, filename: str, units: tuple[str, ...]) -> tuple[bytes, tuple[str, ...], bool]:
    """Return the object of ``source``, its undefined names, whether macros make up mnemonics."""
    rows = [list(_STATEMENT.findall(line)) for line in plain(source).split("\n")]
    built = any(_BUILT.match(part) for parts in rows for part in parts)
    text = "\n".join("".join(_rewritten(parts, n, filename)) for n, parts in enumerate(rows, 1)) + "\n"
    with tempfile.TemporaryDirectory(prefix="kgdbpatch-") as directory:
        place = Path(directory)
        target = place / "payload.o"
        done = run(
            "as",
            *(*_OPTIONS, *units),
            *("-I", str(Path(filename).parent), "-o", str(target), "-"),
            about=filename,
            text=text,
        )
        if done.returncode or not target.exists():
            raise complaint(_tidy(done.stderr, place, filename), filename, "as")
        data = target.read_bytes()
        return data, tuple(undefined(data)), built


@lru_cache(maxsize=64)
def _linked(blob: bytes, origin: int, symbols: tuple[tuple[str, int], ...], filename: str) -> bytes:
    """Return the code of an object placed at ``origin``, its branches' table and its size behind it."""
    with tempfile.TemporaryDirectory(prefix="kgdbpatch-") as directory:
        place = Path(directory)
        (place / "payload.o").write_bytes(blob)
        body = [
            f".text 0x{origin:x} : SUBALIGN(4) {{ *(.text) }}",
            f"{_TABLE} : SUBALIGN(1) {{ *({_TABLE}) LONG(SIZEOF(.text)) }}",
            ".other : { *(.data .bss .glink .iplt .plt .got .rela.iplt .branch_lt) }",
            f'ASSERT(SIZEOF(.other) == 0, "{_ONLY_TEXT}")',
        ]
        (place / "script").write_text(link_script(origin, dict(symbols), body))
        done = run(
            "ld",
            *("-melf32ppc", "--oformat", "binary", "--orphan-handling=error", "-e", "0"),
            *("-T", place / "script", "-o", place / "payload", place / "payload.o"),
            about=filename,
        )
        if done.returncode:
            raise complaint(_tidy(done.stderr, place, filename), filename, "ld")
        return (place / "payload").read_bytes()


_STATEMENT = re.compile(r"""(?:[^;"']|"(?:\\.|[^"\\])*"?|'.?)+|;""")


def _rewritten(parts: list[str], line: int, filename: str) -> Iterator[str]:
    """Yield a line's statements, each relative branch made one to itself and its target put in the table."""
    for part in parts:
        no_text(part, f"{filename}:{line}")
        match = _BRANCH.fullmatch(part)
        if match is None or not match["target"].strip():
            yield part
            continue
        target = _OPERATOR.sub("", _DOT.sub(f"{_HERE}f", match["target"]).strip())
        entry = f"{_HERE}f, ({target}), {line}, {int(bool(match['hint']))}"
        yield f'{match["labels"]}.pushsection {_TABLE},"a"; .long {entry}; .popsection; '
        yield f"{_HERE}: {match['name']}{match['hint']}{match['others']} . "


def _tidy(output: str, place: Path, filename: str) -> str:
    output = re.sub(r"(?m)^\S*-ld: ", "", output)
    output = output.replace("{standard input}", filename).replace(str(place / "payload.o"), filename)
    output = re.sub(
        rf"(?m)^{re.escape(filename)}:\S*?:(\d+):(\(\.text\+0x[0-9a-f]+\):)? ", rf"{filename}:\1: ", output
    )
    output = re.sub(
        r"relocation truncated to fit: R_PPC_\S* against (?:symbol )?`?([^\s']+).*",
        r"\1 does not fit this instruction",
        output,
    )
    output = re.sub(r"(?m)^error: unplaced orphan section.*", _ONLY_TEXT, output)
    output = output.replace(
        "Warning: invalid register expression",
        "invalid register expression (another kind of register belongs here; r0 as a base is written 0)",
    )
    return re.sub(r"\bError: ", "", output)
