"""Threads, stacks and registers of running guests, with patches standing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from kgdbpatch.errors import Misuse
from kgdbpatch.kernel import Kernel
from kgdbpatch.results import Trace

from .own_e500 import booted, goes_on, program

pytestmark = pytest.mark.long

each_guest = pytest.mark.parametrize(
    "function",
    [
        pytest.param("run_netisr", marks=pytest.mark.kernel("darwin")),
        pytest.param("udp_sendmsg", marks=[pytest.mark.kernel("linux"), pytest.mark.linux]),
    ],
)

PAYLOAD = """
static int seen;
__attribute__((noinline)) int deeper(int n) { volatile int kept = n; seen += kept; return seen + kept; }
int counted(void) { return deeper(1) + 1; }
"""


@pytest.fixture
def payload(tmp_path: Path) -> Path:
    path = tmp_path / "payload.c"
    path.write_text(PAYLOAD)
    return path


def stand_at(kernel: Kernel, address: int) -> Trace:
    """Return the stack of the CPU when it is at an address; the guest goes on then."""
    with kernel.stopped() as session:
        session.run_to(address, 30)
        session.stays_stopped = True
    (trace,) = kernel.backtrace(lines=False)
    assert not kernel.qemu.runs()
    kernel.resume()
    return trace


def callers(trace: Trace, patch_id: int) -> list[str]:
    return [frame.symbol.partition("+")[0] for frame in trace.frames if frame.patch != patch_id]


@each_guest
def test_patched_frames_are_named(kernel: Kernel, function: str, payload: Path) -> None:
    site = kernel.resolve(function)
    before = callers(stand_at(kernel, site), 0)[1:]
    assert len(before) >= 3
    with kernel.patch(function, c=payload, entry="counted") as patch:
        for place in (patch.body, patch.body + 8, kernel.resolve_name("deeper") + 4):
            trace = stand_at(kernel, place)
            first = trace.frames[0]
            assert (first.patch, first.function) == (patch.id, kernel.image.symbolize(site))
            assert (first.address, first.kind) == (place, "cpu")
            assert len(callers(trace, patch.id)) >= 2
        names = [frame.symbol.partition("+")[0] for frame in trace.frames]
        assert names[:3] == [f"{patch.id}:deeper", f"{patch.id}:counted", f"patch {patch.id}"]


@each_guest
def test_what_waits_behind_a_patch_at_exits_is_found(kernel: Kernel, function: str) -> None:
    inner = {"run_netisr": "ip_intr", "udp_sendmsg": "ip_send_skb"}[function]
    inner = inner if kernel.image.knows(inner) or kernel.image.knows("_" + inner) else function
    with kernel.patch(function, count=True, exit=True) as patch:
        for _ in range(20):
            trace = stand_at(kernel, kernel.resolve(inner) if inner != function else patch.body)
            places = [number for number, frame in enumerate(trace.frames) if frame.patch == patch.id]
            if places:
                break
        assert places
        assert trace.frames[places[-1] + 1 :]


@pytest.mark.linux
@pytest.mark.kernel("linux")
def test_a_soft_interrupts_stack_leads_on_to_what_was_interrupted(kernel: Kernel) -> None:
    seen = 0
    while seen < 3:
        trace = stand_at(kernel, kernel.resolve("run_timer_softirq"))
        names = [frame.symbol.partition("+")[0] for frame in trace.frames]
        if "run_ksoftirqd" in names:  # its own thread's stack
            continue
        seen += 1
        behind = names.index("do_softirq_own_stack") + 1
        assert names[behind] in ("irq_exit", "do_softirq"), names
        assert trace.frames[behind].sp not in range(trace.frames[0].sp, trace.frames[0].sp + 0x2000)
        assert {frame.kind for frame in trace.frames[behind:]} & {"interrupted", "process"}, names


@each_guest
def test_threads(kernel: Kernel, function: str) -> None:
    rows = kernel.threads()
    running = [row for row in rows if row.state == "running"]
    assert [row.cpu for row in running] == [0]
    assert len({row.thread for row in rows}) == len(rows) > 20
    by_name = {row.name: row for row in rows}
    if function == "udp_sendmsg":
        assert (by_name["kthreadd"].id, by_name["kthreadd"].pid) == (2, 2)
        assert by_name["swapper"].pid == 0
        assert (by_name["kswapd0"].symbol or "").startswith("kswapd+")
    else:
        assert by_name["mach_init"].pid == 1
        assert by_name["idle"].pid is None
        assert by_name["syslogd"].state in ("waiting", "runnable", "running")
    traces = kernel.backtrace(everybody=True, lines=False)
    assert {trace.name for trace in traces} >= {row.name for row in rows if row.cpu is None} - {"exec"}
    deep = [trace for trace in traces if len(trace.frames) > 2]
    assert len(deep) > 0.9 * len(traces)
    named = [frame.symbol for trace in traces for frame in trace.frames if frame.kind != "process"]
    assert not [symbol for symbol in named if symbol.startswith("0x")]
    if function == "udp_sendmsg":  # every process's stack is followed up to where it entered the kernel
        ends = {trace.frames[-1].kind for trace in traces if trace.frames and (trace.pid or 0) > 30}
        assert ends == {"process"}


@pytest.mark.linux
@pytest.mark.kernel("linux")
def test_one_thread_by_its_names(kernel: Kernel) -> None:
    (by_name,) = kernel.backtrace("kswapd0")
    assert by_name.thread is not None
    for word in (by_name.pid, by_name.thread, str(by_name.pid), hex(by_name.thread)):
        assert kernel.backtrace(word, lines=False)[0].name == "kswapd0"
    frame = next(frame for frame in by_name.frames if frame.symbol.startswith("kswapd+"))
    assert (frame.file, frame.kind) == ("mm/vmscan.c", "call")
    with pytest.raises(Misuse, match="no thread 'kswapd'; did you mean kswapd0"):
        kernel.backtrace("kswapd")
    with pytest.raises(Misuse, match="no thread '99999'"):
        kernel.backtrace(99999)


@each_guest
def test_registers(kernel: Kernel, function: str) -> None:
    kernel.pause()
    (row,) = kernel.registers()
    assert row == kernel.registers(0)[0]
    assert set(row.registers) >= {f"r{number}" for number in range(32)} | {f"cr{n}" for n in range(8)}
    assert set(row.registers) >= {"pc", "lr", "ctr", "xer", "so", "ca", "msr", "srr0", "srr1", "dar", "dsisr"}
    assert row.registers["pvr"] == 0x80301
    cr = sum(row.registers[f"cr{number}"] << 28 - 4 * number for number in range(8))
    assert cr == row.registers["cr"]
    assert not kernel.qemu.runs()
    kernel.resume()
    assert stand_at(kernel, kernel.resolve(function)).frames[0].address == kernel.resolve(function)
    with pytest.raises(Misuse, match="no CPU 1: it has one CPU, number 0"):
        kernel.registers(1)


@pytest.mark.panics
def test_a_dead_kernels_stack(kernel: Kernel, tmp_path: Path) -> None:
    source = tmp_path / "dies.c"
    source.write_text('extern void panic(const char *, ...); void dies(void) { panic("on purpose"); }')
    patch = kernel.patch("run_netisr", c=source)
    since = kernel.qemu.console.position()
    kernel.qemu.console.wait("panic", 30, since)
    (trace,) = kernel.backtrace()
    names = [frame.symbol.partition("+")[0] for frame in trace.frames]
    assert f"{patch.id}:dies" in names
    assert names.index("_panic") < names.index(f"{patch.id}:dies") < names.index("_netisr_thread")
    assert kernel.threads()
    assert kernel.registers()[0].registers["msr"]


# ---- two CPUs of which nothing is known but their code ---------------------------------------------------


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    if shutil.which("qemu-system-ppc64") is None:
        pytest.skip("qemu-system-ppc64 is not installed")
    with Kernel.boot(booted("own-e500-frames", program(tmp_path_factory.mktemp("own")), 2)) as kernel:
        goes_on(kernel, 2)
        yield kernel


def test_two_cpus_without_known_threads(both: Kernel) -> None:
    rows = both.threads()
    assert [(row.name, row.cpu, row.thread, row.state) for row in rows] == [
        ("CPU 0", 0, None, "running"),
        ("CPU 1", 1, None, "running"),
    ]
    assert all(row.symbol and not row.symbol.startswith("0x") for row in rows)
    first, second = both.backtrace()
    assert (first.cpu, second.cpu) == (0, 1)
    assert first.frames
    assert second.frames
    zero, one = both.registers()
    assert (zero.registers["pir"], one.registers["pir"]) == (0, 1)
    assert one.registers["r1"] != zero.registers["r1"]
    with pytest.raises(Misuse, match="no CPU 2: it has CPUs 0 to 1"):
        both.registers(2)
    with pytest.raises(Misuse, match="not known"):
        both.backtrace("init")
