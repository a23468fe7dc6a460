"""`Kernel.evaluate` and `kgdbpatch print`: C expressions in a running, a panicked and another kernel."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli.conftest import Result

from kgdbpatch.cli.main import run
from kgdbpatch.cpu.ppc6xx import Ppc6xx
from kgdbpatch.errors import BadImage, MemoryFault, Misuse
from kgdbpatch.kernel import Kernel
from kgdbpatch.kernel.inspecting import leave_process
from kgdbpatch.vm.inspection import Breakpoint, Watchpoint

from .parts import physical

DECREMENTER = 0x900  # its vector


def cli(capfd: pytest.CaptureFixture[str], *arguments: object) -> Result:
    capfd.readouterr()
    code = run([str(argument) for argument in arguments])
    return Result(code, *capfd.readouterr())


def test_on_darwin(kernel: Kernel, capfd: pytest.CaptureFixture[str]) -> None:
    text = kernel.evaluate("version").text.strip('"')
    assert kernel.read_virtual(kernel.image.lookup("version"), len(text)) == text.encode()
    done = cli(capfd, "print", kernel.name, "all_threads", "&all_threads", "sizeof(struct thread)", "--json")
    first, place, size = done.json_lines
    assert done.code == 0, done.err
    assert set(first) == {"expression", "type", "text", "number"}
    assert (first["type"], place["number"]) == ("struct thread *", kernel.image.lookup("all_threads"))
    assert size["number"] > 0
    shown = cli(capfd, "print", kernel.name, "sizeof(int)", "2 + 3")
    assert (shown.code, shown.out) == (0, "sizeof(int) = 4\n2 + 3 = 5\n")
    for expression in ("no_such_thing", "all_threads = 0", "panic(version)", "*"):
        refused = cli(capfd, "print", kernel.name, expression, "--json")
        assert (refused.code, json.loads(refused.out)["exit"]) == (2, 2), refused
        assert "GDB: " in refused.err
    assert kernel.health.state == "running"
    assert kernel.verify().ok


@pytest.mark.linux
@pytest.mark.kernel("linux")
def test_on_linux(kernel: Kernel) -> None:
    """Its debug information is kept beside it."""
    assert kernel.evaluate("init_task.comm").text.startswith('"swapper')
    assert kernel.evaluate("init_task.stack").number == kernel.image.lookup("init_stack")


@pytest.mark.linux
@pytest.mark.kernel("linux")
def test_where_an_exception_begins_nothing_of_the_kernel_is_seen(kernel: Kernel) -> None:
    place = kernel.image.lookup("init_task")
    with kernel.stopped() as session:
        session.run_to_physical(DECREMENTER, 60)
        with pytest.raises(MemoryFault):
            session.read(place, 4)
        leave_process(Ppc6xx(), session)
        assert session.read(place, 4) == kernel.qemu.ram.read(physical(kernel, place), 4)


def test_it_stands_at_a_breakpoint(kernel: Kernel) -> None:
    with kernel.inspected() as inspection:
        stop = inspection.run_to(Breakpoint("run_netisr"), deadline=20)
        assert stop.frame.address == kernel.image.lookup("run_netisr")
        assert [frame.function for frame in inspection.frames()][-1:] == ["_thread_bootstrap"]
        with pytest.raises(Misuse, match="nothing_there"):
            inspection.run_to(Watchpoint("nothing_there"), deadline=1)
    kernel.log.wait("selfcheck", deadline=60, since=kernel.log.position())


def test_other_files(kernel: Kernel, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert kernel.evaluate("version", symbols=kernel.image.path.with_name("mach_kernel.elf")).number is None
    alone = tmp_path / "mach_kernel"
    alone.write_bytes(kernel.image.path.read_bytes())
    done = cli(capfd, "print", kernel.name, "version", "--image", alone)
    assert (done.code, done.out) == (5, "")
    assert "no debug information (DWARF)" in done.err
    with pytest.raises(BadImage, match="no debug information"):
        kernel.evaluate("version", symbols=alone)


@pytest.mark.panics
def test_a_dead_kernel(kernel: Kernel, capfd: pytest.CaptureFixture[str]) -> None:
    kernel.patch("run_netisr", asm="li 9, 0\n stw 9, 0(9)")
    kernel.log.wait("panic", deadline=20)
    done = cli(capfd, "print", kernel.name, "version")
    assert done.code == 0, done.err
    assert "Darwin" in done.out
