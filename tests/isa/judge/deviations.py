"""Where QEMU's 750 and the manuals differ, and what no case can show; everything else must agree.

Besides what is listed here, seen on QEMU 7.2:

* With FPSCR[VE] set and MSR[FE0,FE1] clear, an invalid operation writes its target all the same;
  the manual leaves it. With them set, QEMU traps before it writes the target and CR1. The table
  holds what is true of both: the target and CR1 may come through, so they are used.
* A special register that the 750 lacks is left alone, in supervisor state, by mtspr, and mfspr
  leaves its target; MQ (0) traps. The manual says "boundedly undefined".
* A reservation holds for the very address of the lwarx, not for its granule.
* When an instruction leaves FPSCR[FEX] set while MSR[FE0,FE1] is clear, QEMU takes note of an
  exception that it later ignores; a request to stop that comes in between is lost, and with it the
  monitor and the debugger. So these guests are begun by the debugger and end at a breakpoint.
  QEMU 10 may raise it at a later word that has nothing to do with it (lwsync): words to which that
  happened are not judged.
* rfi and mtmsr change MSR at once; no context synchronisation is modelled. Caches do not exist.
"""

from __future__ import annotations

from kgdbpatch.isa.table import Kind, Row

__all__ = ["LACKING", "NOT_JUDGED", "reason_unseen"]

# Mnemonics that are not run, with the reason.
NOT_JUDGED = {
    "eciwx": "QEMU 7.2 has the opcodes of eciwx and ecowx exchanged, and no EAR",
    "ecowx": "QEMU 7.2 has the opcodes of eciwx and ecowx exchanged, and no EAR",
}

# Forms of the table that trap on this CPU as unknown, with the reason. Kernels hold some of them
# for other models and replace or skip them when they start.
LACKING = {
    "dcba": "optional; the 750 has none",
    "fsqrt": "optional; the 750 has none",
    "fsqrt.": "optional; the 750 has none",
    "fsqrts": "optional; the 750 has none",
    "fsqrts.": "optional; the 750 has none",
    "mfspr spr=0": "MQ of POWER and the 601",
    "mtspr spr=0": "MQ of POWER and the 601",
    "tlbia": "optional; the 750 has none",
    "tlbld": "of the 603, whose table search is software",
    "tlbli": "of the 603, whose table search is software",
}

# Special registers that QEMU's 750 lacks, or of which it keeps nothing.
_EMPTY = {276, *range(560, 576), 952, 976, 980, 982, 1011, 1012, 1014, 1015, 1016, 1017, 1018}


def reason_unseen(row: Row, detail: str, use: str) -> str | None:
    """Return why no case can show that a use matters, or None if one should have."""
    if row.mnemonic.startswith("dst"):
        return "only caches see the stream"
    if row.mnemonic == "vexptefp" and use == "vscr":
        return "QEMU's power of two is the same whatever VSCR[NJ] says"
    number = int(detail.removeprefix("spr=")) if detail.startswith("spr=") else -1
    if row.mnemonic.startswith(("dcb", "icbi", "tlbie")) and row.mnemonic != "dcbz" and use in ("A0", "B"):
        return "only caches and the TLB see the address"
    if row.mnemonic in ("mtspr", "mtsr", "mtsrin") and use in ("spr", "sr"):
        return "one name stands for many registers, of which this writes one"
    if row.mnemonic == "mfspr" and use == "D":
        return "kept only by a special register that the CPU lacks"
    if number in _EMPTY:
        return "QEMU's 750 keeps nothing in this special register"
    if row.mnemonic == "mtocrf" and use == "fxm":
        return "kept only by forms with several fields, which are invalid"
    if row.kind is Kind.RFI and use == "msr":
        return "only reserved bits of MSR stay"
    if row.mnemonic in ("lswx", "stswx") and use.startswith("r"):
        return "taken to use every register, whatever XER says"
    return None
