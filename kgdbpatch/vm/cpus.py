"""Look at the CPUs of a running guest from outside, without a stop: QEMU's own view of their registers."""

from __future__ import annotations

import re
from typing import NamedTuple

from kgdbpatch.errors import Misuse
from kgdbpatch.vm.qemu import Qemu

__all__ = ["Glance", "glances"]

_ROW = re.compile(
    r"^NIP (?P<pc>\w+) .*?^MSR (?P<msr>\w+) .*?"
    r"^TB (?P<high>\d+) (?P<low>\d+).*?^GPR00 \w+ (?P<sp>\w+) (?P<r2>\w+)",
    re.MULTILINE | re.DOTALL,
)


class Glance(NamedTuple):
    """One CPU at one moment; ``pc`` may be a little old: QEMU does not note it between branches."""

    pc: int
    msr: int
    sp: int
    r2: int
    timebase: int


def glances(qemu: Qemu, times: int, deadline: float) -> list[list[Glance]]:
    """Return all CPUs' registers, ``times`` in a row; `TargetTimeout` if the monitor stays another's."""
    if not qemu.observable:
        raise Misuse(
            f"guest '{qemu.name}' was attached to without --qmp: its CPUs are not seen while they run"
        )
    from kgdbpatch.vm.qmp import qmp_again  # on use: asyncio is slow to import

    command = {"command-line": "info registers -a"}
    answers = qmp_again(qemu.directory / "qmp.sock", "human-monitor-command", command, times, deadline)
    return [[_glance(row) for row in _ROW.finditer(str(text).replace("\r", ""))] for text in answers]


def _glance(row: re.Match[str]) -> Glance:
    pc, msr, sp, r2 = (int(row[name], 16) & 0xFFFF_FFFF for name in ("pc", "msr", "sp", "r2"))
    return Glance(pc, msr, sp, r2, int(row["high"]) << 32 | int(row["low"]))
