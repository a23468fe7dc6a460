"""`Kernel.memory` and `Kernel.disassemble`: memory of running, paused and dead kernels, read and written."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from cli.conftest import Result

from kgdbpatch.cli.main import run
from kgdbpatch.errors import MemoryFault, Misuse, Refused, UnknownSymbol
from kgdbpatch.kernel import Kernel

from .parts import physical
from .work import beat, empty

GUESTS = [
    pytest.param(("version", "run_netisr"), marks=pytest.mark.kernel("darwin"), id="darwin"),
    pytest.param(
        ("linux_banner", "udp_sendmsg"), marks=[pytest.mark.kernel("linux"), pytest.mark.linux], id="linux"
    ),
]
WIDE = """
#include <kgdbpatch.h>
static const unsigned weights[4] = {7, 5, 3, 1};
volatile unsigned calls;
static unsigned heavy(unsigned x) { return weights[x & 3]; }
void wide(void) { calls += heavy(calls); }
"""


def cli(capfd: pytest.CaptureFixture[str], *arguments: object) -> Result:
    capfd.readouterr()
    code = run([str(argument) for argument in arguments])
    return Result(code, *capfd.readouterr())


@pytest.fixture(params=GUESTS)
def names(request: pytest.FixtureRequest) -> tuple[str, str]:
    found: tuple[str, str] = request.param
    return found


def test_memory_is_read_without_a_stop(
    kernel: Kernel, names: tuple[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    text, function = names
    other = Kernel.attach(kernel.name)
    at, memory = other.places.address(text), other.memory
    banner = memory.string(at)
    assert (b"Darwin" in banner) or (b"Linux" in banner)
    assert memory.read(at, len(banner)) == banner
    assert memory.read(physical(kernel, at), 8, physical=True) == banner[:8]
    (value,) = memory.read_as("string", at)
    assert value.value == banner.decode()
    (first, second) = memory.read_as("char [4]", at, 2)
    assert (first.value, second.value) == (banner[:4].decode(), banner[4:8].decode())
    (word,) = memory.read_as("u32", kernel.places.address(function) + 1)
    assert word.value == int.from_bytes(memory.read(kernel.places.address(function) + 1, 4), "big")
    shown = cli(capfd, "read", kernel.name, text, 20, "--words").out
    assert shown.startswith(f"0x{at:08x}  {banner[:4].hex()} {banner[4:8].hex()}  {banner[8:12].hex()}")
    assert shown.count("\n") == 2
    record = cli(capfd, "read", kernel.name, text, 5, "--json").json
    prefix = kernel.image.symbol_prefix
    assert record == {
        "address": at,
        "symbol": prefix + text,
        "size": 5,
        "data": banner[:5].hex(),
    }
    assert "debugger" not in other.__dict__, "no debugger was started: the guest was not stopped"
    other.close()


def test_what_is_not_there_is_one_line(
    kernel: Kernel, names: tuple[str, str], capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text, function = names
    ram = kernel.qemu.ram.size
    for words, said in (
        ([text, "0"], "at least one byte"),
        ([text, "many"], "no number of bytes"),
        ([text, "99999999999"], "beyond the 32-bit address space"),
        (["0xfffffffe", "8"], "beyond the 32-bit address space"),
        (["0xfbfff000", "8"], "no memory mapped at 0xfbfff000"),
        ([f"0x{ram:x}", "8", "--physical"], "no RAM at physical"),
        ([f"0x{ram - 4:x}", "8", "--physical"], "no RAM at physical"),
        ([text, "--physical"], "no physical address"),
        ([text[:-1], "4"], f"did you mean {kernel.image.symbol_prefix}{text}"),
        ([text, "--as", "struct no_such"], "no symbol 'struct no_such'"),
        ([text, "--as", "u32 [0]"], "1 to"),
        ([text, "--as", "u32 [99999999999]"], "1 to"),
        ([text, "--as", "u32;"], "no type"),
        ([text, "--as", function], "no s"),
        ([text, "0", "--as", "u32"], "at least one value"),
        ([text, "--words", "--halves"], "one of them"),
        ([text, "-o", tmp_path], "is a directory"),
    ):
        done = cli(capfd, "read", kernel.name, *words)
        assert (done.code, done.out) == (2, ""), words
        assert said in done.err
        assert done.err.count("\n") == 1
    assert cli(capfd, "read", kernel.name, text, "1k", "-o", tmp_path / "out").code == 0
    assert len((tmp_path / "out").read_bytes()) == 1024
    assert kernel.health.state == "running"


def test_values_are_written(kernel: Kernel, capfd: pytest.CaptureFixture[str]) -> None:
    """A counter of the workload's goes on from what was written; nothing is written in vain."""
    place, memory = kernel.places.address("netisr_runs"), kernel.memory
    done = memory.write(place, 5)
    assert (done.after[0].value, done.pause_us) == (5, 0)
    end, now = time.monotonic() + 30, 5
    while now == 5:
        assert time.monotonic() < end, "it does not go on"
        now = int.from_bytes(memory.read(place, 4), "big")
    assert 5 < now < 1_000_000
    with pytest.raises(Refused, match=r"is .*, not 77: nothing was written") as refused:
        memory.write(place, 6, expect=[77])
    assert (refused.value.rule, refused.value.address) == ("expected", place)
    kernel.pause()
    (last,) = memory.read_as("u32", place)
    swapped = memory.write(place, 9, expect=[last.value])
    assert (swapped.before[0].value, swapped.after[0].value) == (last.value, 9)
    assert swapped.pause_us > 0
    assert memory.read(place, 4) == b"\0\0\0\x09"
    assert kernel.health.state == "paused"
    told = cli(capfd, "write", kernel.name, "netisr_runs", 12, "--expect", 9, "--json").json
    assert (told["old"], told["new"], told["symbol"], told["size"]) == (9, 12, "_netisr_runs", 4)
    kernel.resume()
    with pytest.raises(Refused, match="text") as text:
        memory.write(kernel.places.address("run_netisr"), 0)
    assert text.value.rule == "text"
    header = kernel.header.arena
    for at, where in ((header.virtual, False), (header.physical, True)):
        with pytest.raises(Refused) as ours:
            memory.write(at, 0, physical=where, force=True)
        assert ours.value.rule == "component"
    assert kernel.verify().ok
    beat(kernel)


@pytest.mark.linux
@pytest.mark.kernel("linux")
def test_what_linux_keeps_is_guarded(kernel: Kernel, capfd: pytest.CaptureFixture[str]) -> None:
    def refused(*words: object, code: int = 3) -> str:
        done = cli(capfd, "write", kernel.name, *words)
        assert (done.code, done.out) == (code, ""), (words, done.out)
        assert done.err.count("\n") == 1
        return done.err

    assert "is constant" in refused("linux_banner", 1)
    assert "kernel's text" in refused("udp_sendmsg", 0)
    assert "start-up memory" in refused("__init_begin", 0)
    assert "go beyond its end" in refused("panic_timeout", 1, 2)
    assert "out of range: u32 holds" in refused("panic_timeout", 1 << 32, code=2)
    assert "out of range: s32 holds" in refused("panic_timeout", 1 << 31, "--as", "s32", code=2)
    assert "did you mean panic_timeout" in refused("panic_timeot", 1, code=2)
    assert "no symbol 'nothing'" in refused("panic_timeout", "nothing", code=2)
    assert "2 expected values for 1" in refused("panic_timeout", 1, "--expect", 1, "--expect", 2, code=2)
    assert "no memory mapped" in refused("0xfbfff000", 1, code=2)
    assert "is 180, not 5" in refused("panic_timeout", 1, "--expect", 5)
    done = cli(capfd, "write", kernel.name, "panic_timeout", -1, "--as", "s32", "--expect", 180)
    assert done.out.splitlines()[0] == "panic_timeout: 180 (0x000000b4) ─► -1 (0xffffffff)"
    done = cli(capfd, "write", kernel.name, "panic_timeout", "jiffies")
    assert f"─► {kernel.image.lookup('jiffies')} " in done.out
    assert cli(capfd, "write", kernel.name, "panic_timeout", 180).code == 0
    with kernel.patch("udp_sendmsg", count=True), pytest.raises(Refused) as site:
        kernel.memory.write(kernel.places.address("udp_sendmsg"), 0, force=True)
    assert site.value.rule == "patched"
    empty(kernel)


@pytest.mark.linux
@pytest.mark.kernel("linux")
def test_structures_of_linux(kernel: Kernel, capfd: pytest.CaptureFixture[str]) -> None:
    (task,) = kernel.memory.read_as("struct task_struct", kernel.places.address("init_task"))
    assert isinstance(task.value, dict)
    assert str(task.value["comm"]).startswith("swapper")
    assert task.value["stack"] == kernel.image.lookup("init_stack")
    shown = cli(capfd, "read", kernel.name, "init_task", "--as", "struct task_struct").out
    assert ' comm = "swapper' in shown
    told = cli(capfd, "read", kernel.name, "init_task", "--as", "struct task_struct", "--json").json
    assert (told["value"]["pid"], told["type"]) == (0, "struct task_struct")
    with pytest.raises(UnknownSymbol, match="did you mean task_struct"):
        kernel.memory.read_as("struct tsk_struct", 0)
    (spot,) = kernel.memory.read_as("void *", kernel.places.address("init_task") + 0x54)
    assert spot.value == kernel.image.lookup("init_stack")
    stack = kernel.memory.read(spot.value, 64)  # mapped page by page, or in the linear map
    assert len(stack) == 64
    with pytest.raises(MemoryFault, match="before it are"):
        kernel.memory.read(0xC0000000, 0x2000_0000)


def test_code_is_shown_as_it_was_and_as_it_is(
    kernel: Kernel, names: tuple[str, str], capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    _, function = names
    own = kernel.disassemble(function)
    assert len(own) == kernel[function].size // 4
    source = tmp_path / "wide.c"
    source.write_text(WIDE)
    first = kernel.patch(function, c=source)
    counts = kernel.patch(function, count=True)
    inner = kernel.patch(kernel.resolve(function) + 4, asm="nop")
    marked = kernel.disassemble(function)
    assert [line.text for line in marked] == [line.text for line in own]
    assert marked[0].patches == (counts.id, first.id)
    assert marked[1].patches == (inner.id,)
    shown = kernel.disassemble(function, patched=True)
    assert "patch" in str(shown[0].target_symbol)
    assert str(shown[0].note).startswith(f"patch {counts.id} (branch): before it 'b ")
    rest = shown[len(own) :]
    assert {line.patch for line in rest} == {first.id, counts.id, inner.id}
    parts = {line.part for line in rest if line.patch == first.id}
    assert parts >= {"payload", "displaced", "code"}
    assert any(line.symbol == f"{first.id}:wide" for line in rest)
    data = [line for line in rest if line.symbol.startswith(f"{first.id}:weights")]
    assert [(line.word, line.kind) for line in data] in ([(n, "data") for n in (7, 5, 3, 1)], [])
    displaced = next(line for line in rest if line.patch == first.id and line.part == "displaced")
    assert displaced.text == own[0].text
    body = kernel.disassemble(f"patch {first.id}")
    assert body[0].address == first.body
    text = cli(capfd, "disasm", kernel.name, function, "--patched").out
    assert f"patch {first.id}: the displaced instruction" in text
    assert f"{first.id}:wide:" in text
    rows = cli(capfd, "disasm", kernel.name, function, 3, "--json").json_lines
    assert [row["address"] for row in rows] == [line.address for line in own[:3]]
    assert kernel.places.name(first.body).startswith(f"patch {first.id}")
    row = cli(capfd, "symbols", kernel.name, f"0x{first.body + 4:x}", "--json").json
    assert (row["kind"], row["name"], row["offset"]) == ("patch", f"patch {first.id}", 4)
    with pytest.raises(Misuse, match="no multiple of 4"):
        kernel.disassemble(kernel.resolve(function) + 2)
    empty(kernel)


@pytest.mark.kernel("darwin")
def test_a_function_that_took_anothers_place(kernel: Kernel, capfd: pytest.CaptureFixture[str]) -> None:
    text = "#include <kgdbpatch.h>\nunsigned calls;\nvoid mine(void) { calls++; KGP_ORIGINAL(void, void)(); }"
    made = kernel.patch("run_netisr", c=text, replace=True)
    own, shown = kernel.disassemble("run_netisr"), kernel.disassemble("run_netisr", patched=True)
    ours = [line for line in shown if line.patch == made.id]
    assert any(line.symbol == f"{made.id}:mine" for line in ours)
    entry = kernel.places.address(f"{made.id}:mine")
    told = cli(capfd, "print", kernel.name, f"(void *) {entry:#x}").out
    assert told.endswith(f" 0x{entry:x} <{made.id}:mine>\n")
    displaced = [line for line in ours if line.part == "displaced"]
    assert displaced[0].text == own[0].text
    assert displaced[-1].target == own[1].address
    made.remove()
    beat(kernel)
    empty(kernel)


@pytest.mark.panics
@pytest.mark.kernel("darwin")
def test_a_dead_kernel_is_looked_at_and_left_alone(kernel: Kernel, capfd: pytest.CaptureFixture[str]) -> None:
    kernel.patch("run_netisr", asm="li 9, 0\n stw 9, 0(9)")
    kernel.log.wait("panic", deadline=20)
    assert "Darwin" in cli(capfd, "read", kernel.name, "version", "--as", "string").out
    assert "# patch" in cli(capfd, "disasm", kernel.name, "run_netisr", 2).out
    assert "stw" in cli(capfd, "disasm", kernel.name, "run_netisr", 1, "--patched").out
    refused = cli(capfd, "write", kernel.name, "netisr_runs", 0, "--json")
    assert (refused.code, json.loads(refused.out)["exit"]) == (4, 4)
    assert "panic" in refused.err
