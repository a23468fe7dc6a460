"""All registers of a CPU, by the names that commands here use."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

from kgdbpatch.errors import KgdbPatchError
from kgdbpatch.vm.registers import GRegisters

if TYPE_CHECKING:
    from kgdbpatch.vm.gdb import Session

__all__ = ["all_registers"]

_FIELDS = 8  # of CR
_XER = (("so", 31), ("ov", 30), ("ca", 29))
_NO_ANSWER = "E"  # what a refusal begins with
# What QEMU's GDB server shows as 0, as it keeps it elsewhere.
_UNTRUE = re.compile(r"[id]bat\d[ul]|tb[ul]|decr")
_MONITOR = re.compile(r"^TB +(?P<tbu>\d+) +(?P<tbl>\d+) +DECR +(?P<decr>\d+)", re.MULTILINE)


def all_registers(session: Session) -> dict[str, int]:
    """Return the registers of the CPU that is meant: general ones, then special ones as QEMU names them.

    ``cr0`` to ``cr7`` stand behind ``cr``, ``so``, ``ov`` and ``ca`` behind ``xer``. What QEMU does not tell
    of this CPU is left out, among it BATs.
    """
    found: dict[str, int] = {}
    for name, value in GRegisters(session.read_all()).as_dict().items():
        found[name] = value
        if name == "cr":
            found |= {f"cr{field}": value >> 4 * (_FIELDS - 1 - field) & 0xF for field in range(_FIELDS)}
        elif name == "xer":
            found |= {bit: value >> place & 1 for bit, place in _XER}
    others = [name for name in session.layout.places if name not in found and not _UNTRUE.fullmatch(name)]
    answers = session.packets(*(f"p{session.layout.number(name):x}" for name in others)) if others else []
    for name, answer in zip(others, answers, strict=True):
        if session.cpu and answer.startswith(_NO_ANSWER) and len(answer) == len("E00"):
            with suppress(KgdbPatchError):
                found[name] = session.register(name)
            continue
        with suppress(ValueError):
            value, size = int(answer, 16), session.layout.places[name][2]
            wide = session.layout.wide and name[0] != "f" and size == 8
            found[name] = value & 0xFFFF_FFFF if wide else value
    clocks = [*_MONITOR.finditer(session.monitor("info registers -a"))]
    if session.cpu < len(clocks):
        found |= {name: int(value) & 0xFFFF_FFFF for name, value in clocks[session.cpu].groupdict().items()}
    return found
