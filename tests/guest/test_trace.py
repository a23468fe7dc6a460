"""Trace programs in running kernels: what they tell is true, and nothing of them stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.hit import ICOUNT, hit_cost
from kgdbpatch.cli.main import run
from kgdbpatch.errors import Misuse
from kgdbpatch.kernel import Kernel, trace_facts
from kgdbpatch.kernel.tracing import Trace
from kgdbpatch.results import MapRow, TraceEvent

from .work import beat, empty

pytestmark = pytest.mark.long

LINUX = [pytest.mark.kernel("linux"), pytest.mark.linux, pytest.mark.long]
SITES = [
    pytest.param(("strlen", "strl*"), marks=pytest.mark.kernel("darwin"), id="darwin"),
    pytest.param(("udp_sendmsg", "udp_r*"), marks=LINUX, id="linux"),
]


@pytest.fixture(params=SITES)
def sites(request: pytest.FixtureRequest) -> tuple[str, str]:
    found: tuple[str, str] = request.param
    return found


def values(rows: list[MapRow], name: str) -> dict[tuple[object, ...], int | float]:
    return {row.key: row.value for row in rows if row.map == name}


def test_all_ways_of_counting_agree(kernel: Kernel, sites: tuple[str, str]) -> None:
    """What one event adds to each map is the same, while the guest is halted in between as well."""
    busy, _ = sites
    text = f"""
        {busy} {{ @keyed[comm] = count(); @caller[caller] = count(); @plain = count();
                  @told++; print(arg0);
                  @wide[nsecs > 0, cpu] = sum(1); @buckets = hist(1);
                  @line = lhist(5, 0, 10, 5); @one = avg(3) }}
    """
    before = kernel.patch(busy, count=True)
    with Trace(kernel, text, slots=1 << 15) as trace:
        after = kernel.patch(busy, count=True)
        for _ in range(3):
            beat(kernel)
        events = trace.events()
        kernel.pause()
        events += trace.events()
        rows, least, most = trace.maps(), after.hits, before.hits
        kernel.resume()
        assert trace.lost == 0
    told = int(values(rows, "@plain")[()])
    assert least is not None
    assert most is not None
    assert 100 < least <= told <= most
    assert len(events) == told
    for name in ("@keyed", "@caller", "@told", "@wide"):
        assert sum(values(rows, name).values()) == told, name
    histogram = next(row for row in rows if row.map == "@buckets")
    assert histogram.buckets == ((1, 2, told),)
    assert next(row for row in rows if row.map == "@line").buckets == ((5, 10, told),)
    average = next(row for row in rows if row.map == "@one")
    assert (average.value, average.count) == (3.0, told)
    assert list(values(rows, "@wide")) == [(1, 0)]
    assert all(row.lost == 0 for row in rows)
    kernel.remove(before.id, after.id)
    beat(kernel)
    empty(kernel)


def test_arguments_and_results(kernel: Kernel, sites: tuple[str, str]) -> None:
    """At its return a function has its arguments and its result; a condition chooses."""
    text = {
        "strlen": "strlen(s):return if s { @[str(s)] = max(retval); @all = count() }",
        "udp_sendmsg": "udp_sendmsg:return if retval == len { @[comm] = max(retval); @all = count() }",
    }[sites[0]]
    with Trace(kernel, text) as trace:
        beat(kernel)
        beat(kernel)
        rows = trace.maps()
    found = values(rows, "@")
    assert found
    if sites[0] == "strlen":
        short = {str(key[0]): value for key, value in found.items() if 0 < len(str(key[0])) < 63}
        assert len(short) > 3
        assert {name: len(name) for name in short} == short
    else:
        assert found == {("udp",): 64}
    beat(kernel)
    empty(kernel)


def test_a_thread_keeps_what_it_needs_later(kernel: Kernel, sites: tuple[str, str]) -> None:
    text = f"""
        {sites[0]} {{ @begun[tid] = nsecs }}
        {sites[0]}:return if @begun[tid] {{ @took = min(nsecs - @begun[tid]);
            @n = count(); delete(@begun[tid]) }}
    """
    with Trace(kernel, text) as trace:
        beat(kernel)
        beat(kernel)
        rows = trace.maps()
    assert 0 < values(rows, "@took")[()] < 1_000_000_000
    assert values(rows, "@n")[()] > 100
    assert len(values(rows, "@begun")) < 20
    empty(kernel)


def test_globs_calls_and_counting_alone(kernel: Kernel, sites: tuple[str, str]) -> None:
    busy, several = sites
    with Trace(kernel, f"{several} {{ @[func] = count() }}") as trace:
        counted = values(trace.maps(), "@")
        until = time.monotonic() + 60
        while len(counted) < 2:
            assert time.monotonic() < until
            beat(kernel)
            counted = values(trace.maps(), "@")
    with Trace(kernel, f"->{busy} {{ @[site] = count() }} {busy} {{ @at[caller] = count() }}") as trace:
        beat(kernel)
        rows = trace.maps()
    at_calls = {str(key[0]): value for key, value in values(rows, "@").items()}
    assert at_calls or sites[0] == "udp_sendmsg", "called by pointer alone"
    assert values(rows, "@at")
    beat(kernel)
    empty(kernel)


def test_memory_that_is_not_there_reads_as_nothing(kernel: Kernel, sites: tuple[str, str]) -> None:
    text = f"""{sites[0]} {{
        print(*(int *)4, *(int *)0xfffffffc, *(char *)0x30000000, str(8), str(0xffffffff));
        stop
    }}"""
    told: list[TraceEvent | MapRow] = []
    with Trace(kernel, text) as trace:
        trace.run(told.append, 30)
        assert trace.over
    first = told[0]
    assert isinstance(first, TraceEvent)
    assert first.values == (0, 0, 0, "", "")
    beat(kernel)
    empty(kernel)


@pytest.mark.kernel("darwin")
def test_where_no_memory_is_known_none_is_read(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a kernel whose memory is not known as mapped, each pointer reads as nothing."""
    monkeypatch.setattr(trace_facts, "end_of_memory", lambda low, _: low)
    told: list[TraceEvent | MapRow] = []
    with Trace(kernel, "strlen { print(str(arg0), *(int *)arg0, *(int *)0x30000000); stop }") as trace:
        trace.run(told.append, 30)
        assert trace.unread >= 3
    first = told[0]
    assert isinstance(first, TraceEvent)
    assert first.values == ("", 0, 0)
    beat(kernel)
    empty(kernel)


def test_what_happens_every_so_often(kernel: Kernel, sites: tuple[str, str]) -> None:
    told: list[TraceEvent | MapRow] = []
    with Trace(
        kernel, f'{sites[0]} {{ @n[cpu] = count() }} every 200ms {{ printf("now"); print(@n); clear(@n) }}'
    ) as trace:
        trace.run(told.append, 3)
        last = trace.maps()
    rows = [one for one in told if isinstance(one, MapRow)]
    assert len([one for one in told if isinstance(one, TraceEvent) and one.text == "now"]) > 5
    assert len(rows) > 3
    assert sum(row.count for row in [*rows, *last]) > max(row.count for row in rows)
    empty(kernel)


def test_more_events_than_are_read_are_counted(kernel: Kernel, sites: tuple[str, str]) -> None:
    with Trace(kernel, f"{sites[0]} {{ print(arg0); @ = count() }}", slots=128) as trace:
        beat(kernel)
        beat(kernel)
        kernel.pause()
        events, rows = trace.events(), trace.maps()
        kernel.resume()
    assert len(events) <= 128
    assert len(events) + trace.lost == rows[0].value
    with Trace(kernel, f"{sites[0]} {{ @[nsecs] = count(); @all = count() }}", entries=8) as trace:
        beat(kernel)
        kernel.pause()
        rows = trace.maps()
        kernel.resume()
    few = [row for row in rows if row.map == "@"]
    assert sum(row.count for row in few) + few[0].lost >= values(rows, "@all")[()] - 1
    assert few[0].lost
    empty(kernel)


def obeying() -> None:
    """Heed Ctrl-C and hang-ups, which jobs in the background and under nohup ignore."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def ended(kernel: Kernel, busy: str, number: signal.Signals) -> None:
    """Start a trace as a command, and end it by a signal once it tells something."""
    command = [sys.executable, "-m", "kgdbpatch", "trace", kernel.name, f"{busy} {{ print(func) }}"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, preexec_fn=obeying
    ) as told:
        assert told.stdout is not None
        assert told.stdout.readline()
        told.send_signal(number)
        told.stdout.read()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.kernel("darwin")
def test_one_that_is_ended_is_taken_out(kernel: Kernel, number: signal.Signals) -> None:
    ended(kernel, "strlen", number)
    beat(kernel)
    empty(kernel)


def test_one_that_is_killed_can_be_taken_out(kernel: Kernel, sites: tuple[str, str]) -> None:
    ended(kernel, sites[1], signal.SIGKILL)
    assert kernel.patch_table()
    assert kernel.verify().ok
    assert run(["remove", kernel.name, "--all"]) == 0
    beat(kernel)
    empty(kernel)


@pytest.mark.kernel("darwin")
def test_the_command(kernel: Kernel, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program = tmp_path / "program"
    program.write_text("strlen(s) { @[str(s)] = count() }\nstrlen:return { @l = hist(retval) }")
    assert run(["trace", kernel.name, "--file", str(program), "--for", "1"]) == 0
    out = capfd.readouterr().out
    assert "@[the quick brown fox]: " in out
    assert "[16, 32)" in out
    assert "█" in out
    assert run(["trace", kernel.name, "--file", str(program), "--for", "1", "--json"]) == 0
    rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert {row["map"] for row in rows} == {"@", "@l"}
    assert run(["trace", kernel.name, 'strlen { printf("%d\\n", 5); stop }', "--json"]) == 0
    first = json.loads(capfd.readouterr().out.splitlines()[0])
    assert first == {"event": "printf", "cpu": 0, "text": "5\n", "values": [5]}
    assert run(["trace", kernel.name, "->strlen { count() }", "--show-c"]) == 0
    assert run(["trace", kernel.name, "->strlen { print(site) }", "--show-c"]) == 0
    assert "void kgt_probe_0(" in capfd.readouterr().out
    assert run(["trace", kernel.name, "--list", "strl*"]) == 0
    assert "strlen(const char *" in capfd.readouterr().out
    empty(kernel)


BAD = [
    ("nosuch { count() }", "no symbol 'nosuch'"),
    ("nosuch* { count() }", "no function is like 'nosuch*'"),
    ("strlen { print(lne) }", "nothing is called 'lne'"),
    ("strlen { print(retval) }", "retval is what a function returns"),
    ("strlen { @ = sum(1); @ = count() }", "@ is of sum already"),
    ("strlen { @a[1] = 2; @a[comm] = 3 }", "other keys elsewhere"),
    ('strlen { printf("%d") }', "1 conversions, and 0 values"),
    ('strlen { printf("%q", 1) }', "no conversion"),
    ('strlen { printf("%d", comm) }', "wants a number"),
    ('strlen { print("a" + 1) }', "nothing is computed of them"),
    ("strlen { arg0 = 1 }", "can be written"),
    ("strlen { arg0 }", "does nothing"),
    ("strlen { foo(1) }", "no action"),
    ("strlen { print(foo(1)) }", "no function"),
    ("strlen { @ = hist() }", "so it is written"),
    ("strlen { @ = lhist(1, 5, 1, 1) }", "no range"),
    ("strlen { @ += count() }", "goes with ="),
    ("strlen { clear(@) }", "stands in every"),
    ("strlen { delete(@) }", "an element of a map"),
    ("strlen { print(*arg0) }", "the program: "),
    ("strlen { print(((struct thread *)arg0)->nosuch) }", "has no member 'nosuch'"),
    ("strlen { print(((struct thread *)arg0).name) }", "write '->name'"),
    ("strlen+4:return { count() }", "without an offset"),
    ("every 1s { print(@) }", "has no probe"),
    ("strlen { count() } every 1s { @ = 1 }", "takes print"),
    ("strlen { count() } every 1s { clear(@x) }", "no map @x"),
    ("strlen { @m = min(arg0) } every 1s { clear(@m) }", "only counts, sums and histograms"),
    ("", "empty program"),
]


@pytest.mark.kernel("darwin")
def test_bad_programs(kernel: Kernel, capfd: pytest.CaptureFixture[str]) -> None:
    for text, about in BAD:
        assert run(["trace", kernel.name, text, "--for", "2"]) == 2, text
        told = capfd.readouterr().err
        first = told.splitlines()[0]
        assert about in first, told
        assert "Traceback" not in told
        empty(kernel)
    for words in ([], ["strlen {}", "--file", "x"], ["strlen { count() }", "--events", "1000"]):
        assert run(["trace", kernel.name, *words]) == 2
    assert run(["trace", kernel.name, "--file", "/nosuch"]) == 5
    beat(kernel)


COSTS = [("{ count() }", 12), ("{ @[KEY] = count() }", 40), ("{ @[caller] = count() }", 40)]
COSTS += [
    ("{ print(arg0, arg1, arg2, arg3) }", 60),
    ('{ printf("%d %d %d %d", arg0, arg1, arg2, arg3) }', 60),
    ("{ @[comm] = count() }", 120),
    ("{ @[stack(3)] = count() }", 150),
]


@pytest.mark.linux
def test_what_an_event_costs() -> None:
    """The least of some hits: one that meets a new key, or another's, takes longer."""
    with Kernel.boot("linux", f"pytest-{os.getpid()}-trace-cost", icount=ICOUNT) as kernel:
        for text, most in COSTS:
            with Trace(kernel, f"udp_sendmsg {text.replace('KEY', 'tid')}"):
                cost = hit_cost(kernel, "udp_sendmsg", None, hits=5)
            assert cost.least <= most, (text, cost)


def test_a_program_without_probes() -> None:
    with pytest.raises(Misuse):
        Trace(None, "every 1s { print(@) }")  # type: ignore[arg-type]
