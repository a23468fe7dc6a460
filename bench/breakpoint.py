"""What a patch replaces: a GDB breakpoint with commands; how long it stops the guest."""

from __future__ import annotations

import asyncio
import re
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qemu.qmp import EventListener, Message

from bench.packets import PACKET
from kgdbpatch.errors import CommandFailed, TargetTimeout
from kgdbpatch.vm.launch import find_tool
from kgdbpatch.vm.qemu import Qemu
from kgdbpatch.vm.qmp import connected, synchronously

__all__ = ["Stops", "breakpoint_with_commands"]

_DEADLINE = 120.0  # seconds for all hits
_SCRIPT = """\
set confirm off
set pagination off
set endian big
set architecture {architecture}
{log}
target remote {socket}
set $hits = 0
break *{site:#x}
commands
silent
set $hits = $hits + 1
printf "{format} | %d\\n", {value}, $hits
if $hits < {hits}
continue
end
end
continue
detach
"""


@dataclass(frozen=True, slots=True)
class Stops:
    """Per hit of a breakpoint: stops, how long (median, seconds) they took together, packets sent."""

    stops: int
    seconds: float
    round_trips: float


def breakpoint_with_commands(qemu: Qemu, site: int, text: str, value: str, hits: int) -> Stops:
    """Count and print ``value`` at ``site`` by a GDB breakpoint's commands, for some hits.

    ``text`` is a printf format for ``value``, a GDB expression. The times are QEMU's own, from
    its STOP and RESUME events; the stop for connecting is left out. Packets are counted in a
    run of their own. Raises `CommandFailed` quoting GDB when it does not print every hit.
    """
    with tempfile.TemporaryDirectory() as scratch:
        script, log = Path(scratch, "script.gdb"), Path(scratch, "packets.log")

        def run(logging: str) -> None:
            filled = _SCRIPT.format(
                architecture=qemu.architecture,
                log=logging,
                socket=qemu.gdb_socket.name,  # GDB takes a path with a colon for TCP
                site=site,
                format=text,
                value=value,
                hits=hits,
            )
            script.write_text(filled)
            _gdb(script, hits, qemu.directory)

        pauses = stops_during(qemu.directory / "qmp.sock", lambda: run(""), _DEADLINE)[1:]
        run(f"set remotelogfile {log}")
        stops = max(1, round(len(pauses) / hits))
        each = [sum(pauses[at : at + stops]) for at in range(0, len(pauses) - stops + 1, stops)]
        return Stops(stops, statistics.median(each), _packets(log) / hits)


def _gdb(script: Path, hits: int, directory: Path) -> None:
    command = [find_tool("gdb-multiarch", "gdb-multiarch"), "-nx", "-q", "-batch", "-x", str(script)]
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_DEADLINE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TargetTimeout(
            f"the breakpoint was not hit {hits} times within {_DEADLINE:g} s; GDB was ended"
        ) from error
    if not re.search(rf"\| {hits}$", done.stdout, re.MULTILINE):
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise CommandFailed(f"GDB did not print {hits} hits of its breakpoint: {' '.join(last)}")


def _packets(log: Path) -> int:
    """Count the packets that GDB sent once it had let the guest run."""
    sent = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("w ")]
    starts = (number for number, line in enumerate(sent) if "vCont;c" in line or "$c#" in line)
    first = next(starts, None)
    if first is None:
        raise CommandFailed("GDB logged no packet that lets the guest run")
    return sum(len(PACKET.findall(line)) for line in sent[first:])


def stops_during(socket: Path, work: Callable[[], object], deadline: float) -> list[float]:
    """Do ``work`` and return how long (seconds) the guest stood still each time it was stopped.

    The times are those of QEMU's own events. ``work`` runs in a thread and cannot use QMP.
    Errors as for `qmp`, and what ``work`` raises.
    """
    return synchronously(_stops_during(socket, work), "events", deadline)


async def _stops_during(socket: Path, work: Callable[[], object]) -> list[float]:
    async with connected(socket) as client:
        with client.listener(("STOP", "RESUME")) as listener:
            await asyncio.to_thread(work)
            await client.execute("query-status")  # its answer comes after all earlier events
            return _pauses(listener)


def _pauses(listener: EventListener) -> list[float]:
    found, since = [], None
    for event in listener.clear():
        now = _seconds(event)
        if event["event"] == "STOP":
            since = now
        elif since is not None:
            found.append(now - since)
            since = None
    return found


def _seconds(event: Message) -> float:
    stamp = event["timestamp"]
    assert isinstance(stamp, dict)
    return float(stamp["seconds"]) + float(stamp["microseconds"]) / 1e6
