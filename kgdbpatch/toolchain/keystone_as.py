"""Assemble with keystone, fenced in: for machines without GNU as.

keystone 0.9.2 truncates silently, gives no bytes for some spellings and hangs on others. So it is asked only
for the forms listed here, with plain numbers in range, in a process of its own; `encoder` does the rest; and
every word must decode to what was written.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

from kgdbpatch.errors import BadPatch
from kgdbpatch.isa.decode import decode
from kgdbpatch.toolchain.encoder import encoded
from kgdbpatch.toolchain.statements import Program, Statement, checked, displacement, no_base_r0, parse

__all__ = ["FORMS", "RANGES", "assemble_keystone"]

_DEADLINE = 10.0  # seconds for a whole payload

# Operand kinds: r register, a base register (0: none), e base that is written back, c CR field,
# b CR bit, s signed 16, n signed 16 to be negated, u unsigned 16, i either, h 0..31, k 0..255,
# d displacement(base), w displacement(written-back base), x special register number, l 0 or 1.
# A mnemonic that ends in ``.`` stands for both forms, one in ``!`` for itself only.
_FORMS = {
    "rrr": "add. addc. adde. subf. subfc. subfe. sub. subc. mullw. mulhw. mulhwu. divw. divwu. and. or. "
    "xor. nand. nor. eqv. andc. orc. slw. srw. sraw. rotlw.",
    "rar": "stwcx.! lwzx lbzx lhzx lhax lwbrx lhbrx stwx stbx sthx stwbrx sthbrx lwarx",
    "rer": "lwzux lbzux lhzux lhaux stwux stbux sthux",
    "rr": "neg. addze. addme. subfze. subfme. cntlzw. extsb. extsh. mr. not.",
    "ar": "dcbf dcbst dcbi dcbz dcbt dcbtst icbi",
    "rrs": "addic addic.! subfic mulli",
    "ras": "addi",
    "ran": "subi",
    "rru": "ori oris xori xoris andi.! andis.!",
    "rai": "addis",
    "rs": "li",
    "ri": "lis",
    "rd": "lwz lbz lhz lha stw stb sth stmw",
    "rw": "lwzu lbzu lhzu lhau stwu stbu sthu",
    "rrh": "srawi. slwi. srwi. clrlwi. clrrwi. rotlwi.",
    "rrhhh": "rlwinm. rlwimi.",
    "rrrhh": "rlwnm.",
    "crr rr": "cmpw cmplw",
    "crs rs": "cmpwi",
    "cru ru": "cmplwi",
    "bbb": "crand cror crxor crnand crnor creqv crandc crorc",
    "bb": "crmove crnot",
    "b": "crclr crset",
    "cc": "mcrf",
    "kr": "mtcrf",
    "r": "mflr mtlr mfctr mtctr mfxer mtxer mfcr mtcr mfmsr mtmsr tlbie mftb",
    "rx": "mfspr",
    "xr": "mtspr",
    " l": "sync",
    "": "nop lwsync isync eieio sc trap rfi blr bctr bctrl blrl tlbsync",
}


def _forms() -> Iterator[tuple[str, tuple[str, ...]]]:
    for kinds, mnemonics in _FORMS.items():
        forms = tuple(kinds.split(" "))
        for mnemonic in mnemonics.split():
            if not mnemonic.endswith("!"):
                yield mnemonic.removesuffix("."), forms
            if mnemonic[-1] in ".!":
                yield mnemonic.removesuffix("!"), forms


FORMS: dict[str, tuple[str, ...]] = dict(_forms())

RANGES = dict.fromkeys("rabeh", (0, 31)) | {
    "e": (1, 31),
    "c": (0, 7),
    "k": (0, 255),
    "x": (0, 1023),
    "l": (0, 1),
    "s": (-0x8000, 0x7FFF),
    "n": (-0x7FFF, 0x7FFF),
    "u": (0, 0xFFFF),
    "i": (-0x8000, 0xFFFF),
}


def assemble_keystone(
    source: str, origin: int, resolve: Callable[[str, str], int], filename: str, model: str = ""
) -> bytes:
    """Return the code of ``source`` placed at ``origin``; arguments as for `assemble_gnu`."""
    program = parse(source, origin, lambda name: resolve(name, source), filename)
    words: dict[int, int] = {}
    asked: list[tuple[Statement, str]] = []
    for statement in program.statements:
        trusted = any(len(form) == len(statement.operands) for form in FORMS.get(statement.mnemonic, ()))
        word = None if trusted else encoded(program, statement, model)
        if word is None:
            asked.append((statement, _plain_text(program, statement)))
        else:
            words[statement.address] = word
    for (statement, text), word in zip(asked, _ask(filename, asked), strict=True):
        if not decode(word, statement.address).known:
            raise BadPatch(f"{filename}:{statement.line}: keystone made 0x{word:08x} of '{text}'")
        words[statement.address] = word
    return b"".join(words[statement.address].to_bytes(4, "big") for statement in program.statements)


def _plain_text(program: Program, statement: Statement) -> str:
    """Return an instruction with numbers for operands, each checked against its kind."""
    where, operands = f"{program.filename}:{statement.line}", statement.operands
    written = statement.written
    forms = FORMS.get(statement.mnemonic)
    if forms is None:
        raise BadPatch(f"{where}: {written}: the keystone engine is not trusted with this; install GNU as")
    form = next((form for form in forms if len(form) == len(operands)), None)
    if form is None:
        raise BadPatch(f"{where}: {written}: wrong number of operands")
    out = []
    for kind, operand in zip(form, operands, strict=True):
        base = ""
        if kind in "dw":
            operand, tail = displacement(statement, operand, where)
            base, kind = f"({_number(program, statement, 'a' if kind == 'd' else 'e', tail)})", "s"
        out.append(f"{_number(program, statement, kind, operand)}{base}")
    loads = form in {"rer", "rw"} and "st" not in statement.mnemonic
    if loads and out[1].rpartition("(")[2].rstrip(")") == out[0]:
        raise BadPatch(f"{where}: {written}: the base that is written back is also the target")
    return f"{statement.mnemonic} {','.join(out)}".strip()


def _number(program: Program, statement: Statement, kind: str, text: str) -> int:
    value = program.value(text, statement.line, statement.address)
    where = f"{program.filename}:{statement.line}"
    if kind in "ae":
        no_base_r0(statement, text, where)
    if kind == "u" and text.rstrip().endswith("@l"):
        value &= 0xFFFF
    return checked(statement, text, value, *RANGES[kind], where)


def _ask(filename: str, asked: list[tuple[Statement, str]]) -> list[int]:
    """Let keystone assemble single instructions, in a child that is ended when it hangs."""
    if not asked:
        return []
    lines = "".join(f"{statement.address:x} {text}\n" for statement, text in asked)
    command = [sys.executable, "-m", "kgdbpatch.toolchain.keystone_child"]
    try:
        done = subprocess.run(
            command, input=lines, capture_output=True, text=True, timeout=_DEADLINE, check=False
        )
        output, last = done.stdout, f"ended with {done.returncode}: {done.stderr.strip()[-200:]}"
    except subprocess.TimeoutExpired as error:
        output = (error.stdout or b"").decode() if isinstance(error.stdout, bytes) else error.stdout or ""
        last = f"did not end in {_DEADLINE:.0f} s"
    answers = output.splitlines()
    words = []
    for index, (statement, text) in enumerate(asked):
        answer = answers[index] if index < len(answers) else f"! {last}"
        if len(answer) != 8:
            reason = answer.removeprefix("! ") if answer.startswith("!") else f"{len(answer) // 2} bytes"
            raise BadPatch(f"{filename}:{statement.line}: keystone on '{text}': {reason}")
        words.append(int(answer, 16))
    return words
