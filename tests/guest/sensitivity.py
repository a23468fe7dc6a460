"""Overwrite one live register at a random kernel instruction and see whether the guest notices.

Every case begins at the same snapshot of a guest that runs by instruction count. A breakpoint waits
for the instruction; there one register that the analysis calls live is overwritten, at each of the
first passes, as a wrong patch would do. Then the guest runs on and its console tells.
"""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from kgdbpatch.vm.qemu import Qemu

from .stub import Stub, stub

PASSES = 20  # of the instruction at which the register is overwritten
SILENCE = 14  # reports of the self-check without a complaint: the guest did not notice
DEAD = 4.0  # seconds of the host's time without a line: the guest hangs (it prints several a second)

_LINE = re.compile(r"selfcheck: \d+ ok, (\d+) bad")
_COMPLAINT = re.compile(r"selfcheck: .* is wrong|selfcheck: .* has done nothing|process \d+ ended")
_PANIC = re.compile(r"^panic\(cpu")


@dataclass(frozen=True)
class Case:
    """One overwritten register and what became of it."""

    site: int
    register: str
    verdict: str  # reported, panic, hang, silent
    passes: int
    line: str = ""

    def __str__(self) -> str:
        return f"0x{self.site:08x} {self.register} x{self.passes}: {self.verdict} {self.line}"


@dataclass
class Campaign:
    """The cases of a guest; ``unreached`` instructions were drawn but not come by in time."""

    qemu: Qemu
    symbolize: Callable[[int], str]
    mtdec: tuple[int, int]  # the address of some `mtdec` and the number of its register
    cases: list[Case] = field(default_factory=list)
    unreached: list[int] = field(default_factory=list)

    @property
    def verdicts(self) -> Counter[str]:
        return Counter(case.verdict for case in self.cases)

    @property
    def share(self) -> float:
        """How many of the cases were noticed, 0 to 1; a hang counts: nobody can miss it."""
        return 1 - self.verdicts["silent"] / len(self.cases)

    def summary(self) -> str:
        told = ", ".join(f"{count} {verdict}" for verdict, count in sorted(self.verdicts.items()))
        lines = [
            f"{len(self.cases)} overwritten registers: {told}; noticed {self.share:.1%}; "
            f"{len(self.unreached)} more instructions were not reached"
        ]
        lines += [f"  {self.symbolize(c.site)}: {c}" for c in self.cases if c.verdict == "silent"]
        return "\n".join(lines)

    def run(self, site: int, live: list[str], choice: random.Random, snapshot: str) -> None:
        self.qemu.loadvm(snapshot)
        with stub(self.qemu) as connection:
            wind_up(connection, *self.mtdec)
            connection.ask(f"Z1,{site:x},4")
            if not self._reach(connection, site, 1.0):
                self.unreached.append(site)
                return
            register = choice.choice(live)
            since = self.qemu.console.position()
            passes = 0
            while passes < PASSES:
                overwrite(connection, register, choice)
                passes += 1
                connection.ask(f"z1,{site:x},4")
                connection.ask("vCont;s")  # past the breakpoint
                connection.ask(f"Z1,{site:x},4")
                if not self._reach(connection, site, 0.3):
                    break
            connection.ask(f"z1,{site:x},4")
        verdict, line = self._watch(since)
        self.cases.append(Case(site, register, verdict, passes, line))

    @staticmethod
    def _reach(connection: Stub, site: int, seconds: float) -> bool:
        """Run until the kernel is at ``site`` (not a process at the same address)."""
        return connection.run_to_stop(seconds) and connection.register("pc") == site

    def _watch(self, since: int) -> tuple[str, str]:
        """Tell what the console says from ``since`` on; the guest runs."""
        self.qemu.qmp("cont")
        silent = 0
        while True:
            lines = self.qemu.console.lines(since)
            for line in lines:
                counted = _LINE.search(line)
                if _PANIC.search(line):
                    return "panic", line
                if _COMPLAINT.search(line) or (counted and counted[1] != "0"):
                    return "reported", line
            silent = sum(1 for line in lines if _LINE.search(line))
            if silent >= SILENCE:
                return "silent", ""
            known = self.qemu.console.position()
            if not self._grows(known):
                return "hang", lines[-1] if lines else ""

    def _grows(self, known: int) -> bool:
        end = time.monotonic() + DEAD
        for _ in self.qemu.console.follow(known, DEAD):
            return True
        return time.monotonic() < end


def wind_up(connection: Stub, mtdec: int, number: int) -> None:
    """Let the CPU execute one `mtdec`.

    QEMU 7.2 does not put the decrementer's deadline back with a snapshot: the next tick would come
    when the guest's clock has reached what it was when the snapshot was loaded.
    """
    block = connection.ask("g")
    connection.set_register(f"r{number}", 10000)
    connection.set_register("msr", 0x1032)
    connection.set_register("pc", mtdec)
    connection.ask("vCont;s")
    connection.ask(f"G{block}")


def overwrite(connection: Stub, name: str, choice: random.Random) -> None:
    """Put another value into a register."""
    if name.startswith("f"):
        connection.set_register(name, choice.getrandbits(62) | 1)
        return
    holder = "cr" if name.startswith("cr") else "xer" if name == "ca" else name
    old = connection.register(holder)
    if name.startswith("cr"):
        new = old ^ choice.randrange(1, 16) << 4 * (7 - int(name[2:]))
    elif name == "ca":
        new = old ^ 1 << 29
    else:
        new = old ^ choice.randrange(1, 1 << 32)
    connection.set_register(holder, new)
