"""Assemble with GNU as, and link with GNU ld against the kernel's symbols."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from kgdbpatch.errors import BadPatch
from kgdbpatch.patch.gnu import complaint, link_script, run, undefined

__all__ = ["assemble_gnu"]

# 603/604 is the 750's instruction set; a wrong kind of register is only a warning to GNU as.
_OPTIONS = ("-mbig-endian", "-a32", "-mppc", "-mregnames", "--fatal-warnings", "-g")
_ABSOLUTE = "__kgdbpatch_at_"
# the plan knows of code only
_ONLY_TEXT = "a payload in assembler may use the section .text only"

_STATEMENT = re.compile(r"""[^;"#]+|"(?:\\.|[^"\\])*"?|;|\#.*""")
_BRANCH = re.compile(
    r"""(?P<head>\s*(?:[\w.$]+:\s*)*            # labels
        b(?!l?a\b|c?l?r|c?ctr)[a-z]*(?<!a)[+-]?\s+  # a relative branch
        (?:[^,]+,\s*)*)
        (?P<number>0[xX][0-9a-fA-F]+|\d+)\s*""",
    re.VERBOSE,
)


def assemble_gnu(source: str, origin: int, resolve: Callable[[str, str], int], filename: str) -> bytes:
    """Return the code of ``source`` placed at ``origin``.

    ``resolve(name, source)`` gives the address of a name that the source leaves undefined.
    Raises `BadPatch` with the assembler's or linker's own message.
    """
    blob, names = _object(source, filename)
    symbols = {name: _value(name, lambda n: resolve(n, source)) for name in names}
    with tempfile.TemporaryDirectory(prefix="kgdbpatch-") as directory:
        place = Path(directory)
        (place / "payload.o").write_bytes(blob)
        body = [
            f".text 0x{origin:x} : SUBALIGN(4) {{ *(.text) }}",
            ".other : { *(.data .bss .glink .iplt .plt .got .rela.iplt .branch_lt) }",
            f'ASSERT(SIZEOF(.other) == 0, "{_ONLY_TEXT}")',
        ]
        (place / "script").write_text(link_script(origin, symbols, body))
        done = run(
            "ld",
            *("-melf32ppc", "--oformat", "binary", "--orphan-handling=error", "-e", "0"),
            *("-T", place / "script", "-o", place / "payload", place / "payload.o"),
            about=filename,
        )
        if done.returncode:
            raise complaint(_tidy(done.stderr, place, filename), filename, "ld")
        code = (place / "payload").read_bytes() if (place / "payload").exists() else b""
    if len(code) % 4:
        raise BadPatch(f"{filename}: the payload ends in the middle of an instruction ({len(code)} bytes)")
    return code


def _value(name: str, resolve: Callable[[str], int]) -> int:
    if name.startswith(_ABSOLUTE):
        return int(name.removeprefix(_ABSOLUTE), 16)
    return resolve(name)


@lru_cache(maxsize=8)
def _object(source: str, filename: str) -> tuple[bytes, tuple[str, ...]]:
    """Return the object file of ``source`` and the names it leaves undefined."""
    with tempfile.TemporaryDirectory(prefix="kgdbpatch-") as directory:
        place = Path(directory)
        target = place / "payload.o"
        lines = enumerate(source.split("\n"), 1)
        text = "\n".join(_absolute_branches(line, f"{filename}:{number}") for number, line in lines) + "\n"
        done = run(
            "as", *_OPTIONS, "-I", str(Path(filename).parent), "-o", target, "-", about=filename, text=text
        )
        if done.returncode or not target.exists():
            raise complaint(_tidy(done.stderr, place, filename), filename, "as")
        return target.read_bytes(), tuple(undefined(target, filename))


def _absolute_branches(line: str, where: str) -> str:
    """Make ``b 0x3000`` go to the address 0x3000; to GNU as it means 0x3000 bytes further on."""
    out = []
    for part in _STATEMENT.findall(line):
        match = _BRANCH.fullmatch(part)
        if match:
            value = int(match["number"], 0) if match["number"][:2].lower() == "0x" else int(match["number"])
            if value & 3 or value > 0xFFFF_FFFF:
                raise BadPatch(f"{where}: no branch reaches {match['number']}: not the address of a word")
            part = f"{match['head']}{_ABSOLUTE}{value:x} "
        out.append(part)
    return "".join(out)


def _tidy(output: str, place: Path, filename: str) -> str:
    output = re.sub(r"(?m)^\S*-ld: ", "", output)
    output = output.replace("{standard input}", filename).replace(str(place / "payload.o"), filename)
    output = re.sub(rf"{_ABSOLUTE}([0-9a-f]+)", r"0x\1", output)
    output = re.sub(
        rf"(?m)^{re.escape(filename)}:\S*?:(\d+):(\(\.text\+0x[0-9a-f]+\):)? ", rf"{filename}:\1: ", output
    )
    output = re.sub(
        r"relocation truncated to fit: R_PPC_REL(?:24|14)\S* against (?:symbol )?`?([^\s']+).*",
        r"\1 is out of branch reach from here; load its address and use mtctr and bctrl (or bctr)",
        output,
    )
    output = re.sub(r"(?m)^error: unplaced orphan section.*", _ONLY_TEXT, output)
    output = output.replace(
        "Warning: invalid register expression",
        "invalid register expression (another kind of register belongs here; r0 as a base is written 0)",
    )
    return re.sub(r"\bError: ", "", output)
