"""GDB/MI on a bare-metal C program with DWARF: what the compiler, QEMU's RAM and GDB's points agree on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from kgdbpatch.errors import CommandFailed, Misuse, TargetLost, TargetTimeout
from kgdbpatch.vm.gdb_process import Gdb
from kgdbpatch.vm.inspection import Breakpoint, Inspection, Inspector, Watchpoint
from kgdbpatch.vm.process import Process, start_time
from kgdbpatch.vm.qemu import Qemu

from . import baremetal
from .baremetal import LOOP

COMPILER = "powerpc-linux-gnu-gcc"
pytestmark = [
    pytest.mark.guest,
    pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"{COMPILER} is not installed"),
]

# Counts in real mode, for ever. At -O0 nothing is moved, merged or inlined.
PROGRAM = r"""
enum colour { RED, GREEN = 5 };
struct node { struct node *next; short weights[3]; enum colour colour; const char *name; };
struct node second = { 0, { 4, 5, 6 }, GREEN, "second \"node\"" };
struct node first = { &second, { 1, -2, 3 }, RED, "first" };
volatile unsigned counter;
volatile unsigned seen, never = 77;
int two(int a, int b) { return 100 * a + b; }
int (*function)(int, int) = two;

void leaf(unsigned by)
{
    counter += by;
}

void middle(unsigned depth)
{
    unsigned twice = 2 * depth;
    leaf(depth);
    seen = counter + twice - twice;
}

asm(".section .start,\"ax\"\n .globl start\n start: lis 1, 0x10\n li 0, 0\n stwu 0, -64(1)\n"
    "bl forever\n .text");

void forever(void)
{
    for (;;)
        middle(3);
}
"""


@pytest.fixture(scope="module")
def symbols(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("inspected")
    source, elf = directory / "program.c", directory / 'program "elf"'
    source.write_text(PROGRAM)
    flags = [
        "-g",
        "-O0",
        "-mcpu=750",
        "-ffreestanding",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-msdata=none",
        "-fno-pic",
        "-fno-pie",
    ]
    layout = [f"-Wl,--section-start=.start={LOOP:#x},-Ttext=0x1100,-Tdata=0x3000,--build-id=none,-e,start"]
    subprocess.run([COMPILER, *flags, *layout, source, "-o", elf], check=True)
    return elf


def memory(symbols: Path) -> bytes:
    """Return what is to lie in RAM from LOOP on."""
    with symbols.open("rb") as file:
        segments = [
            (s["p_paddr"], s.data()) for s in ELFFile(file).iter_segments() if s["p_type"] == "PT_LOAD"
        ]
    whole = bytearray(0x8000)
    for address, data in segments:
        if address >= LOOP:
            whole[address - LOOP : address - LOOP + len(data)] = data
        else:  # the ELF header's page begins before
            whole[: len(data) - (LOOP - address)] = data[LOOP - address :]
    return bytes(whole)


@pytest.fixture(scope="module")
def guest(runtime: Path, symbols: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Qemu]:
    raw = tmp_path_factory.mktemp("raw") / "program.bin"
    raw.write_bytes(memory(symbols))
    with baremetal.start("inspected", raw) as qemu:
        yield qemu


@pytest.fixture(scope="module")
def inspector(guest: Qemu, symbols: Path) -> Iterator[Inspector]:
    with Inspector(guest, symbols) as started:
        yield started


@pytest.fixture
def inspection(inspector: Inspector) -> Iterator[Inspection]:
    with inspector.inspected() as stopped:
        yield stopped


@pytest.fixture(scope="module")
def places(symbols: Path) -> dict[str, int]:
    """Where things are, by the symbol table, which GDB's types come not from."""
    with symbols.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        return {symbol.name: symbol["st_value"] for symbol in table.iter_symbols()}


def word(guest: Qemu, address: int) -> int:
    return int.from_bytes(guest.ram.read(address, 4), "big")


def goes_on(guest: Qemu, places: dict[str, int]) -> bool:
    before, end = word(guest, places["counter"]), time.monotonic() + 10
    while time.monotonic() < end:
        if guest.hmp("info status") == "VM status: running" and word(guest, places["counter"]) != before:
            return True
    return False


def test_c_expressions(guest: Qemu, inspection: Inspection, places: dict[str, int]) -> None:
    counter = inspection.evaluate("counter")
    assert (counter.type, counter.number) == ("volatile unsigned int", word(guest, places["counter"]))
    assert counter.text == str(counter.number)
    expected = {
        "&counter": places["counter"],
        "first.next": places["second"],
        "*function": places["two"],
        "function": places["two"],
        "first.weights[1]": -2,
        "(char)65": 65,
        "first.next->weights[2] * never": 6 * 77,
        "sizeof(struct node)": 20,
        "first.next->name": word(guest, places["second"] + 16),
        "'\\n'": 10,
        "first": None,
        "first.weights": None,
        "second.colour": None,
        "1.5": None,
    }
    found = {expression: inspection.evaluate(expression) for expression in expected}
    assert {expression: value.number for expression, value in found.items()} == expected
    assert found["second.colour"].text == "GREEN"
    assert found["first"].type == "struct node"
    assert found["function"].type == "int (*)(int, int)"
    assert found["first.next->name"].text.endswith(r'"second \"node\""')
    assert "weights = {1, -2, 3}" in found["first"].text


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("nothing", 'No symbol "nothing" in current context'),
        ("1 +", "syntax error"),
        ("", "GDB:"),
        ("first.last", "no member named last"),
        ("*(int *)0x90000000", "Cannot access memory at address 0x90000000"),
        ("never = 1", "Writing to memory is not allowed"),
        ("$r3 = 1", "Writing to registers is not allowed"),
        ("two(1, 2)", "Cannot call functions"),
        ("never\n-exec-continue", "not one line of text"),
    ],
)
def test_what_cannot_be_evaluated(guest: Qemu, inspection: Inspection, expression: str, words: str) -> None:
    registers = inspection.evaluate("$r3"), inspection.evaluate("$pc")
    with pytest.raises(Misuse) as caught:
        inspection.evaluate(expression)
    assert words in str(caught.value)
    assert (inspection.evaluate("$r3"), inspection.evaluate("$pc")) == registers
    assert inspection.evaluate("never").number == 77
    assert guest.hmp("info status") == "VM status: paused"


def test_a_breakpoint_and_the_frames_there(inspection: Inspection, places: dict[str, int]) -> None:
    stop = inspection.run_to(Breakpoint(places["leaf"]), Breakpoint("two"), deadline=10)
    assert stop.point == Breakpoint(places["leaf"])
    assert (stop.frame.address, stop.frame.function) == (places["leaf"], "leaf")
    stop = inspection.run_to(Breakpoint("leaf"), deadline=10)  # behind its prologue
    assert inspection.evaluate("by").number == 3
    frames = inspection.frames()
    assert [frame.function for frame in frames][:3] == ["leaf", "middle", "forever"]
    line = PROGRAM.splitlines().index("    counter += by;") + 1
    assert (frames[0].file or "").endswith("program.c")
    assert frames[0].line == stop.frame.line == line
    (cpu,) = inspection.threads()
    assert (cpu.id, cpu.frame.function, cpu.frame.address) == (1, "leaf", stop.frame.address)


def test_watchpoints(guest: Qemu, inspection: Inspection, places: dict[str, int]) -> None:
    before = word(guest, places["counter"])
    stop = inspection.run_to(Watchpoint("counter"), deadline=10)
    assert (stop.point, stop.frame.function) == (Watchpoint("counter"), "leaf")
    assert (stop.old, stop.new) == (str(before), str(before + 3))
    assert word(guest, places["counter"]) == before + 3
    stop = inspection.run_to(Watchpoint("counter", "read"), Watchpoint("never", "access"), deadline=10)
    assert (stop.point, stop.new) == (Watchpoint("counter", "read"), str(before + 3))


def test_points_that_cannot_be(inspection: Inspection) -> None:
    for point in (
        Breakpoint("nothing"),
        Watchpoint("nothing"),
        Watchpoint("never", "look"),
        Breakpoint("a\nb"),
    ):
        with pytest.raises(Misuse):
            inspection.run_to(Breakpoint("two"), point, deadline=10)


def test_a_point_that_is_not_reached(guest: Qemu, inspector: Inspector, places: dict[str, int]) -> None:
    with inspector.inspected() as inspection:
        with pytest.raises(TargetTimeout, match="none of the points within 1 s; it is at 0x00001"):
            inspection.run_to(Breakpoint("two"), Watchpoint("never"), deadline=0.3)
        assert guest.hmp("info status") == "VM status: paused"
        before = word(guest, places["counter"])
        assert inspection.evaluate("counter").number == before
    assert goes_on(guest, places)


def test_packets_and_mi_see_the_same(inspector: Inspector, places: dict[str, int]) -> None:
    """What rows of packets do behind GDB's back, and the other way round."""
    with inspector.inspected() as there:
        session = there.session
        saved = session.read_all()
        there.frames()
        for number in (7, 8):
            session.write_physical(places["never"], number.to_bytes(4, "big"))
            assert there.evaluate("never").number == number
        session.write_physical(places["never"], (77).to_bytes(4, "big"))
        at = session.run_to_physical(places["leaf"], 10)
        assert there.evaluate("$pc").number == at["pc"] == places["leaf"]
        there.run_to(Breakpoint(places["middle"]), deadline=10)
        assert session.registers()["pc"] == places["middle"]
        session.write_all(saved)
        assert there.evaluate("$pc").number == session.registers()["pc"]


def killed_at_work(inspector: Inspector, pid: int) -> None:
    """Kill a process while GDB waits for a guest that runs."""
    with inspector.inspected() as inspection:
        killer = threading.Timer(0.3, os.kill, (pid, signal.SIGKILL))
        killer.start()
        try:
            inspection.run_to(Breakpoint("two"), deadline=10)
        finally:
            killer.join()


def test_gdb_killed_while_the_guest_runs(guest: Qemu, inspector: Inspector, places: dict[str, int]) -> None:
    with pytest.raises(TargetLost, match=r"GDB ended \(exit code -9\)"):
        killed_at_work(inspector, inspector.gdb_pid)
    with inspector.inspected() as inspection:
        assert inspection.evaluate("never").number == 77
    assert goes_on(guest, places)


def test_qemu_killed_while_the_guest_runs(runtime: Path, symbols: Path, tmp_path: Path) -> None:
    (tmp_path / "program.bin").write_bytes(memory(symbols))
    with (
        baremetal.start("inspected-killed", tmp_path / "program.bin") as qemu,
        Inspector(qemu, symbols) as mine,
        pytest.raises(TargetLost, match="killed by SIGKILL"),
    ):
        killed_at_work(mine, qemu.pid)


CLIENT = """
import sys
from pathlib import Path
from kgdbpatch.vm.inspection import Breakpoint, Inspector
from kgdbpatch.vm.qemu import Qemu
inspector = Inspector(Qemu.attach("inspected"), Path(sys.argv[1]))
with inspector.inspected() as inspection:
    print(inspector.gdb_pid, flush=True)
    inspection.run_to(Breakpoint("two"), deadline=1)
"""


def test_client_killed_while_the_guest_runs(guest: Qemu, symbols: Path, places: dict[str, int]) -> None:
    client = subprocess.Popen([sys.executable, "-c", CLIENT, symbols], stdout=subprocess.PIPE, text=True)
    assert client.stdout is not None
    pid = int(client.stdout.readline())
    started = start_time(pid)
    assert started is not None
    gdb = Process(pid, started)
    end = time.monotonic() + 10
    while guest.hmp("info status") != "VM status: running" and time.monotonic() < end:
        pass
    client.kill()
    client.communicate()
    assert gdb.wait(20), "GDB goes on without its client"
    assert goes_on(guest, places)


def test_a_setting_that_gdb_refuses(guest: Qemu, tmp_path: Path) -> None:
    with (tmp_path / "shared").open("w") as shared:
        gdb = Gdb(guest, ["endian middle"], shared.fileno(), tmp_path)
        try:
            with pytest.raises(CommandFailed, match="GDB: Undefined item"):
                gdb.start(20)
        finally:
            gdb.close()
