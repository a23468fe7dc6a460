"""Write instructions of the table as ``objdump -d`` does where an ELF kernel names no CPU (``-m powerpc``).

Other than ``-M 750`` it writes no ``+`` or ``-`` behind every conditional branch, and knows later hints,
which a 7xx runs too. What is no valid form is ``.long 0x…``, as there.
"""

from __future__ import annotations

from functools import lru_cache

from kgdbpatch.isa.operands import condition_bit, operands, signed
from kgdbpatch.isa.sprs import special_register

__all__ = ["TRAPS", "syntax", "text"]

_SYNTAX = {
    "D,A,i": "mulli subfic addic addic.",
    "D,Z,i": "addi addis",
    "k A,i": "cmpwi",
    "k A,u": "cmplwi",
    "k A,B": "cmpw cmplw",
    "A,D,s,b,e": "rlwimi rlwinm",
    "A,D,B,b,e": "rlwnm",
    "A,D,u": "ori oris xori xoris andi. andis.",
    "D,A,B": "subfc addc mulhwu subf mulhw subfe adde mullw add divwu divw",
    "A,D,B": "slw and andc nor eqv xor orc or nand srw sraw",
    "D,A": "neg subfze addze subfme addme",
    "A,D": "cntlzw extsh extsb",
    "A,D,s": "srawi",
    "D": "mfcr mfmsr mtmsr mftb mftbu",
    "f,D": "mtcrf mtocrf",
    "c": "mcrxr",
    "c,x": "mcrf mcrfs",
    "p,q,r": "crnor crandc crxor crnand crand creqv crorc cror",
    "d,A,i": "twi",
    "d,A,B": "tw",
    "D,i(Z)": "lwz lbz lhz lha lmw stw stb sth stmw",
    "D,i(A)": "lwzu lbzu lhzu lhau stwu stbu sthu",
    "F,i(Z)": "lfs lfd stfs stfd",
    "F,i(A)": "lfsu lfdu stfsu stfdu",
    "D,Z,B": "lwarx lwzx lbzx lhzx eciwx lhax lswx lwbrx lhbrx",
    "D,Z,B ": "stwcx. stwx stbx sthx ecowx stswx stwbrx sthbrx",
    "D,A,B ": "lwzux lbzux lhzux lhaux stwux stbux sthux",
    "F,Z,B": "lfsx lfdx stfsx stfdx stfiwx",
    "F,A,B": "lfsux lfdux stfsux stfdux",
    "D,Z,n": "lswi stswi",
    "Z,B": "dcbz dcbst dcbf dcbtst dcbt dcbi dcba icbi",
    "g,D": "mtsr",
    "D,g": "mfsr",
    "D,B": "mtsrin mfsrin",
    "B,A": "tlbie",
    "B": "tlbld tlbli",
    "F,G,H": "fdivs fsubs fadds fdiv fsub fadd",
    "F,H": "fsqrts fres fsqrt frsqrte frsp fctiw fctiwz fneg fmr fnabs fabs",
    "F,G,J": "fmuls fmul",
    "F,G,J,H": "fmsubs fmadds fnmsubs fnmadds fsel fmsub fmadd fnmsub fnmadd",
    "c,G,H": "fcmpu fcmpo",
    "d": "mtfsb1 mtfsb0",
    "t,v": "mtfsfi",
    "F": "mffs",
    "w,H": "mtfsf",
    "": "lwsync ptesync sync eieio isync sc rfi tlbsync tlbia",
}
_OF = {name: syntax.replace(" ", "") for syntax, names in _SYNTAX.items() for name in names.split()}
_UPDATES = {name for syntax in ("D,i(A)", "D,A,B ", "F,i(A)", "F,A,B") for name in _SYNTAX[syntax].split()}
_RENAMED = {"sync": "hwsync", "dcbt": "dcbtct", "dcbtst": "dcbtstct"}

TRAPS = {
    1: "lgt",
    2: "llt",
    4: "eq",
    5: "lge",
    6: "lle",
    8: "gt",
    12: "ge",
    16: "lt",
    20: "le",
    24: "ne",
    31: "u",
}
_TRUE, _FALSE = ("lt", "gt", "eq", "so"), ("ge", "le", "ne", "ns")
_HINTS = ("", "", "-", "+")
_PAUSES = {26: "miso", 27: "yield", 29: "mdoio", 30: "mdoom"}  # or rN,rN,rN
_POWER = {  # what objdump takes forms for that PowerPC does not allow: the POWER instruction's name, operands
    "lwzu": ("lu", "D,i(Z)"),
    "lwzux": ("lux", "D,A,B"),
    "stwu": ("stu", "D,i(Z)"),
    "stwux": ("stux", "D,Z,B"),
    "lmw": ("lm", "D,i(Z)"),
    "lswi": ("lsi", "D,Z,n"),
    "lswx": ("lsx", "D,A,B"),
}


@lru_cache(maxsize=1 << 14)
def text(mnemonic: str, word: int, address: int) -> str:
    """Return the text of a word of a table row, ``.long 0x…`` where objdump takes it for none."""
    primary = word >> 26
    if primary == 18:
        return f"{mnemonic} 0x{_target(word, address, 26):x}"
    if primary == 16 or (primary == 19 and word >> 1 & 0x3FF in (16, 528)):
        found = _branch(word, address)
    else:
        found = _plain(mnemonic, word) if _is_valid(mnemonic, word) else _power(mnemonic, word)
    return found or f".long 0x{word:08x}"


def _target(word: int, address: int, bits: int) -> int:
    return (signed(word & ~3, bits) + (0 if word & 2 else address)) & 0xFFFFFFFF


def _is_valid(mnemonic: str, word: int) -> bool:
    d, a, b = word >> 21 & 31, word >> 16 & 31, word >> 11 & 31
    match mnemonic:
        case "lmw":
            return a < d
        case "lswi":
            return a != d
        case "lswx":
            return d not in (a, b)
        case "mtocrf":
            return (word >> 12 & 0xFF).bit_count() == 1
    if mnemonic not in _UPDATES:
        return True
    return a != 0 and not (a == d and mnemonic.startswith(("lw", "lb", "lh")))


def _power(mnemonic: str, word: int) -> str:
    name, syntax = _POWER.get(mnemonic, ("", ""))
    return name and f"{name} {operands(syntax, word)}"


def _plain(mnemonic: str, word: int) -> str:
    alias = _alias(mnemonic, word)
    if alias:
        return alias
    letters = syntax(mnemonic)
    if letters is None:
        return ""
    return f"{_RENAMED.get(mnemonic, mnemonic)} {operands(letters, word)}".rstrip()


def syntax(mnemonic: str) -> str | None:
    """Return the operands of a mnemonic of the table (letters of `OPERANDS`), None for branches and the like.

    >>> syntax("lwz")
    'D,i(Z)'
    """
    stem = mnemonic.rstrip(".")
    return _OF.get(mnemonic, _OF.get(stem, _OF.get(stem.removesuffix("o"))))


def _branch(word: int, address: int) -> str:
    """Return the text of a conditional branch; "" where BO, BI or reserved bits make it no valid form."""
    bo, bi, direct = word >> 21 & 31, word >> 16 & 31, word >> 26 == 16
    to_counter = not direct and word >> 1 & 0x3FF == 528
    where = "" if direct else "ctr" if to_counter else "lr"
    hints = word >> 11 & 31  # BH
    if not direct and hints > 3:
        return ""
    last = [f"0x{_target(word, address, 16):x}"] if direct else [str(hints)] if hints else []
    link = "l" if word & 1 else ""
    ending = where + link + ("a" if direct and word & 2 else "")
    # later models hint in the lowest bits of BO; earlier ones in the last only, which shows for registers
    hint = _HINTS[bo & 3] if bo & 0x14 == 4 else ("-", "+")[bo & 1] if bo >> 3 == 3 else ""
    if not hint and bo & 1 and not direct:
        hint = "+"
    counts, condition = not bo & 4, not bo & 16
    if condition and not counts:
        name = (_TRUE if bo & 8 else _FALSE)[bi & 3]
        field = [f"cr{bi >> 2}"] if bi >> 2 or (last and not direct) else []
        return _written(f"b{name}{ending}{hint}", field + last)
    if bo in (21, 22, 23) or bo > 27:
        return ""
    if not to_counter and condition:
        name = "bd" + ("z" if bo & 2 else "nz") + ("t" if bo & 8 else "f")
        return _written(f"{name}{ending}{hint}", [condition_bit(bi), *last])
    if bi == 0 and counts and not to_counter:
        return _written(f"bd{'z' if bo & 2 else 'nz'}{ending}{hint}", last)
    if bi == 0 and bo == 20 and not direct:
        return _written(f"b{ending}", last)
    if bo & 1 and bo < 24:
        return ""
    return _written(f"bc{ending}{hint}", [str(bo), condition_bit(bi), *last])


def _written(name: str, parts: list[str]) -> str:
    return f"{name} {','.join(parts)}".rstrip()


def _alias(mnemonic: str, word: int) -> str:
    """Return the text where objdump has another name for some operands, else ""."""
    d, a, b = word >> 21 & 31, word >> 16 & 31, word >> 11 & 31
    dot = "." if mnemonic.endswith(".") else ""
    match mnemonic.rstrip("."):
        case "addi" | "addis" if a == 0:
            return f"{'li' if mnemonic == 'addi' else 'lis'} {operands('D,i', word)}"
        case "ori" | "xori" if word & 0x03FFFFFF == 0:
            return "nop" if mnemonic == "ori" else "xnop"
        case "or" if d == b:
            if not dot and a == d and a in _PAUSES:
                return _PAUSES[a]
            return f"mr{dot} {operands('A,D', word)}"
        case "nor" if d == b:
            return f"not{dot} {operands('A,D', word)}"
        case "rlwinm":
            return _rotation(word, dot)
        case "rlwnm" if word & 0x7FE == 31 << 1:
            return f"rotlw{dot} {operands('A,D,B', word)}"
        case "crxor" | "creqv" if d == a == b:
            return f"{'crclr' if mnemonic == 'crxor' else 'crset'} {operands('p', word)}"
        case "cror" | "crnor" if a == b:
            return f"{'crmove' if mnemonic == 'cror' else 'crnot'} {operands('p,q', word)}"
        case "mtcrf" if word >> 12 & 0xFF == 0xFF:
            return f"mtcr {operands('D', word)}"
        case "tw" if d == 31 and a == b == 0:
            return "trap"
        case "tw" | "twi" if d in TRAPS:
            immediate = "i" if mnemonic == "twi" else ""
            return f"tw{TRAPS[d]}{immediate} {operands('A,i' if immediate else 'A,B', word)}"
    if mnemonic[:2] in ("mf", "mt") and word >> 26 == 31 and word >> 1 & 0x3FF in (339, 467):
        return special_register(word)
    return ""


def _rotation(word: int, dot: str) -> str:
    shift, begin, end = word >> 11 & 31, word >> 6 & 31, word >> 1 & 31
    if begin == 0 and end == 31:
        return f"rotlwi{dot} {operands('A,D,s', word)}"
    if shift == 0 and end == 31:
        return f"clrlwi{dot} {operands('A,D,b', word)}"
    if begin == 0 and end == 31 - shift:
        return f"{'slwi' if shift else 'rotlwi'}{dot} {operands('A,D,s', word)}"
    if end == 31 and begin == 32 - shift:
        return f"srwi{dot} {operands('A,D,b', word)}"
    if shift == 0 and begin == 0:
        return f"clrrwi{dot} {operands('A,D', word)},{31 - end}"
    return ""
