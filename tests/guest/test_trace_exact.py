"""Traces against QEMU's own log of what it executed, and a million events in a run: nothing is missing."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

import pytest

from bench import linux
from kgdbpatch.guests import Recipe
from kgdbpatch.image import Image
from kgdbpatch.kernel import Kernel
from kgdbpatch.kernel.tracing import Trace
from kgdbpatch.vm.qemu import Qemu

from .test_exact_counts import END, beats, halt
from .test_trace import values
from .work import empty

MILLION = 1_000_000
# The site is entered with these registers, or was not executed after all: an exception came first.
ENTERED = rb"^Trace \d+: .*\n(?:(?!GPR00|Trace ).*\n)*GPR00((?: [0-9a-f]+){4})\s*\nGPR04((?: [0-9a-f]+){4})"
LOGGED = re.compile(ENTERED + rb"|^(Stopped execution of TB chain before)", re.MULTILINE)
SITES = [
    pytest.param("darwin", "strlen", id="darwin"),
    pytest.param("linux", "udp_sendmsg", marks=pytest.mark.linux, id="linux"),
]


class Logged(threading.Thread):
    """QEMU's log of an address: how often it was executed, and what r3 to r5 were, added up."""

    def __init__(self, qemu: Qemu, pipe: Path) -> None:
        super().__init__()
        self._qemu, self._pipe, self.text = qemu, pipe, b""

    def run(self) -> None:
        with self._pipe.open("rb") as log:
            while not self.text.endswith(END + b"\n"):
                self.text += log.read1(1 << 20)

    def __enter__(self) -> Logged:
        os.mkfifo(self._pipe)
        self.start()
        self._qemu.hmp(f"logfile {self._pipe}")
        self._qemu.hmp("log exec,cpu,nochain")
        return self

    def __exit__(self, *_: object) -> None:
        with self._pipe.open("wb") as log:
            log.write(END + b"\n")
        self.join()
        self._qemu.hmp("log none")

    def arguments(self) -> list[list[int]]:
        """Return r3, r4 and r5 of each time that the site was executed."""
        rows: list[list[int]] = []
        for first, second, stopped in LOGGED.findall(self.text):
            if stopped:
                rows.pop()
            else:
                words = [*first.split(), *second.split()]
                rows.append([int(word, 16) & 0xFFFF_FFFF for word in words[3:6]])
        return rows


@pytest.mark.long
@pytest.mark.parametrize(("profile", "site"), SITES)
def test_sums_are_those_of_qemus_log(
    profile: str, site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A probe behind the entry sees what QEMU saw there: how often, and with what arguments."""
    path = Recipe.find(profile).image_path()
    assert path is not None
    at = Image.load(path).resolve(site)
    usual = Recipe.qemu_args
    monkeypatch.setattr(Recipe, "qemu_args", lambda *given: [*usual(*given), "-dfilter", f"0x{at:x}+4"])
    text = "{ @n = count(); @tid[tid] = count(); @a = sum(arg0); @b = sum(arg1); @c = sum(arg2) }"
    with Kernel.boot(profile, f"pytest-{os.getpid()}-traced") as kernel:
        qemu = Qemu.attach(kernel.name)
        with Trace(kernel, f"{site} {text}") as trace:
            halt(kernel, qemu)
            before = trace.maps()
            with Logged(qemu, tmp_path / "log") as logged:
                kernel.resume()
                beats(kernel, 2)
                halt(kernel, qemu)
                after = trace.maps()
            kernel.resume()
    told = {
        name: sum(values(after, name).values()) - sum(values(before, name).values())
        for name in ("@n", "@tid", "@a", "@b", "@c")
    }
    executed = logged.arguments()
    assert told["@n"] == told["@tid"] == len(executed)
    assert told["@n"] > 20
    sums = [sum(column) % (1 << 32) for column in zip(*executed, strict=True)]
    assert [told[name] % (1 << 32) for name in ("@a", "@b", "@c")] == sums


@pytest.mark.soak
@pytest.mark.linux
@pytest.mark.kernel("linux")
@pytest.mark.timeout(1800)
def test_a_million_events(kernel: Kernel) -> None:
    """Each is counted, by whatever key, and told or counted as lost."""
    site = "sys_getppid"
    before = kernel.patch(site, count=True)
    text = f"{site} {{ @n = count(); @by[tid] = count(); @from[caller] = count(); print(tid, nsecs) }}"
    with Trace(kernel, text, slots=1 << 15) as trace:
        told, done = 0, threading.Event()

        def work() -> None:
            linux.command(kernel, f"getppid {MILLION}")
            done.set()

        worker = threading.Thread(target=work)
        worker.start()
        while not done.is_set():
            told += len(trace.events())
        worker.join()
        kernel.pause()
        told += len(trace.events())
        rows, most = trace.maps(), before.hits
        kernel.resume()
    counted = {name: sum(values(rows, name).values()) for name in ("@n", "@by", "@from")}
    assert most is not None
    assert MILLION <= counted["@n"] <= most
    assert counted == dict.fromkeys(counted, counted["@n"])
    assert all(row.lost == 0 for row in rows)
    assert told + trace.lost == counted["@n"]
    assert told > 1000
    kernel.remove(before.id)
    empty(kernel)
