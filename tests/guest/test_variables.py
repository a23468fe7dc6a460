"""Variables of payloads: any client reads and writes them by name, and other payloads use them."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

import pytest

from kgdbpatch.cli.main import run
from kgdbpatch.errors import BadPatch, Misuse, Refused, UnknownSymbol
from kgdbpatch.kernel import Kernel
from kgdbpatch.vm.ram import Ram

from .work import beat, empty

pytestmark = pytest.mark.long

COUNTER = """
enum mode { OFF, ON = 3 };
struct stats { unsigned count[4]; char name[16]; unsigned low:3, high:5; enum mode mode; long long wide; };
struct stats stats = { .name = "first" };
volatile unsigned ceiling = 1000000;
unsigned tally;
const int version = 17;
unsigned raised(unsigned x) { return x + ceiling; }
void counter(void)
{
    static unsigned inner;
    inner++;
    if (tally < ceiling)
        tally++;
    stats.count[tally & 3] = tally;
}
"""
USER = """
#include <kgdbpatch.h>
extern unsigned tally, ceiling;
extern unsigned raised(unsigned);
extern unsigned inner KGP_OF(counter, inner);
unsigned seen, sum;
void user(void) { seen = tally; ceiling = 7; sum = raised(1); inner = 0; }
"""

SITES = [
    pytest.param(("run_netisr", "setsoftnet"), marks=pytest.mark.kernel("darwin"), id="darwin"),
    pytest.param(
        ("udp_sendmsg", "udp_rcv"), marks=[pytest.mark.kernel("linux"), pytest.mark.linux], id="linux"
    ),
]


@pytest.fixture(params=SITES)
def sites(request: pytest.FixtureRequest) -> tuple[str, str]:
    found: tuple[str, str] = request.param
    return found


@pytest.fixture
def counter(tmp_path: Path) -> Path:
    source = tmp_path / "counter.c"
    source.write_text(COUNTER)
    return source


def until(kernel: Kernel, patch_id: int, key: str, least: int) -> int:
    """Wait until a number has grown; return it."""
    end = time.monotonic() + 30
    while True:
        value = kernel.find_patch(patch_id).variables[key]
        assert isinstance(value, int)
        if value >= least:
            return value
        assert time.monotonic() < end
        time.sleep(0.02)


def test_another_client_reads_and_writes_them(kernel: Kernel, sites: tuple[str, str], counter: Path) -> None:
    made = kernel.patch(sites[0], c=counter)
    other = Kernel.attach(kernel.name)
    assert other.patch_id("counter") == made.id
    variables = other.find_patch(made.id).variables
    assert set(variables) == {"stats", "ceiling", "tally", "version", "inner"}
    assert until(other, made.id, "tally", 3) >= 3
    variables["tally"] = 500_000
    assert until(other, made.id, "tally", 500_001) < 600_000
    variables["ceiling"] = 0
    before = until(other, made.id, "inner", 1)
    assert until(other, made.id, "inner", before + 3)
    assert variables["stats.wide"] == 0
    assert variables["version"] == 17
    assert "debugger" not in other.__dict__, "no debugger was started: the guest was not stopped"
    variables["stats"] = {"name": "second", "high": 31, "mode": "ON", "wide": -5}
    variables["stats.low"] = 2
    variables["stats.count"] = [1, 2, 3, 4]
    spare = (until(other, made.id, "tally", 1) + 2) & 3  # the payload goes on writing that of tally
    variables[f"stats.count[{spare}]"] = 9
    stats = variables["stats"]
    assert isinstance(stats, dict)
    assert (stats["name"], stats["low"], stats["high"], stats["mode"]) == ("second", 2, 31, 3)
    assert stats["wide"] == -5
    whole = variables["stats.count"]
    assert isinstance(whole, list)
    assert whole[spare] == 9
    told = variables.describe(f"stats.count[{spare}]")
    assert (told.type, told.size, told.value) == ("unsigned int", 4, 9)
    assert other.symbolize(told.address) == f"{made.id}:stats.count[{spare}]"
    other.close()
    made.remove()
    empty(kernel)


def test_what_is_refused(kernel: Kernel, sites: tuple[str, str], counter: Path) -> None:
    with kernel.patch(sites[0], c=counter) as made, kernel.patch(sites[0], count=True) as plain:
        variables = made.variables
        for key, kind, said in (
            ("taly", UnknownSymbol, "did you mean tally?"),
            ("stats.count[4]", Misuse, "they are 0 to 3"),
            ("stats.nam", UnknownSymbol, "did you mean name?"),
        ):
            with pytest.raises(kind, match=re.escape(said)):
                variables[key]
        with pytest.raises(Misuse, match="4294967296 is out of range: unsigned int holds 0 to 4294967295"):
            variables["tally"] = 1 << 32
        with pytest.raises(Misuse, match="17 bytes do not fit"):
            variables["stats.name"] = "x" * 17
        with pytest.raises(Refused, match=r"'version' of patch .* is constant"):
            variables["version"] = 1
        with pytest.raises(Misuse, match=r"keeps no variables"):
            plain.variables["tally"]
        with pytest.raises(Misuse, match="no patch is called 'other'"):
            kernel.patch_id("other")
    empty(kernel)  # a thread may have been inside
    with pytest.raises(Misuse, match="the guest has no patch"):
        variables["tally"]
    empty(kernel)


def test_other_payloads_use_them(kernel: Kernel, sites: tuple[str, str], counter: Path) -> None:
    first, second = sites
    with pytest.raises(BadPatch, match=r"no symbol '(tally|raised|ceiling|counter:inner)' in"):
        kernel.patch(second, c=USER)
    made = kernel.patch(first, c=counter)
    until(kernel, made.id, "tally", 1)
    user = kernel.patch(second, c=USER)
    assert until(kernel, user.id, "sum", 8) == 8
    assert made.variables["ceiling"] == 7
    assert isinstance(user.variables["seen"], int)
    with pytest.raises(Refused, match=rf"patch {made.id} \(counter\) is in use: patch {user.id} was linked"):
        kernel.remove(made.id)
    assert {patch.id: patch.state for patch in kernel.patches} == {made.id: "active", user.id: "active"}
    twin = kernel.patch(first, c=counter)
    with pytest.raises(BadPatch, match=rf"'tally' is ambiguous: {made.id}:tally at "):
        kernel.patch(second, c="extern unsigned tally; unsigned x; void f(void) { x = tally; }")
    chosen = f"extern unsigned tally KGP_OF({twin.id}, tally); void f(void) {{ tally = 0; }}"
    third = kernel.patch(second, c=f"#include <kgdbpatch.h>\n{chosen}")
    with pytest.raises(Refused) as refused:
        kernel.remove(twin.id, user.id)
    assert refused.value.rule == "used"
    kernel.remove(twin.id, third.id)
    kernel.remove(user.id)
    kernel.remove(made.id)
    beat(kernel)
    empty(kernel)


@pytest.mark.kernel("darwin")
def test_who_points_into_a_patch_is_named(kernel: Kernel, counter: Path) -> None:
    """A table of functions that a user fills from outside; and no memory is given back while one is in it."""
    table = "typedef unsigned function(unsigned);\nfunction *volatile table[4];\nunsigned sum;\n"
    table += "void turn(void) { if (table[2]) sum = table[2](4); }"
    made, turning = kernel.patch("run_netisr", c=counter), kernel.patch("setsoftnet", c=table)
    turning.variables["table[2]"] = kernel.resolve_name(f"{made.id}:raised")
    until(kernel, turning.id, "sum", 1_000_004)
    with pytest.raises(Refused, match=rf"table\[2\] of patch {turning.id} points into it; set that to 0"):
        kernel.remove(made.id)
    turning.variables["table[2]"] = 0
    kernel.remove(made.id)
    kernel.remove(turning.id)
    beat(kernel)
    empty(kernel)


@pytest.mark.kernel("darwin")
def test_a_replacement_has_variables(kernel: Kernel) -> None:
    text = "unsigned calls, last;\nextern unsigned netisr;\n"
    text += "#include <kgdbpatch.h>\nvoid mine(void) { calls++; last = netisr; KGP_ORIGINAL(void, void)(); }"
    made = kernel.patch("run_netisr", c=text, replace=True)
    assert until(kernel, made.id, "calls", 2)
    assert until(kernel, made.id, "last", 1)
    made.remove()
    empty(kernel)


@pytest.mark.kernel("darwin")
def test_the_memory_of_what_is_used_stays(kernel: Kernel, tmp_path: Path) -> None:
    """Both are out, a thread still sleeps in the user: what it will call is there till it has left."""
    sleeper = tmp_path / "sleeper.c"
    sleeper.write_text("volatile unsigned woken;\nvoid wake(void) { woken++; }\nvoid sleeper(void) {}\n")
    text = "extern void wake(void), delay_ticks(int);\nvolatile unsigned entered;\n"
    text += "void waits(void) { if (!entered) { entered = 1; delay_ticks(300); wake(); } }"
    used = kernel.patch("setsoftnet", c=sleeper)
    user = kernel.patch("sys_sendto", c=text)
    until(kernel, user.id, "entered", 1)
    held = kernel.remove(user.id, used.id)
    assert set(held) == {user.id, used.id}
    assert until(kernel, used.id, "woken", 1) == 1
    empty(kernel)


@pytest.mark.kernel("darwin")
def test_what_the_client_died_of_does_not_matter(kernel: Kernel, counter: Path) -> None:
    child = os.fork()
    if child == 0:
        try:
            Kernel.attach(kernel.name).patch("run_netisr", c=counter)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    patch = kernel.find_patch(kernel.patch_id("counter"))
    assert until(kernel, patch.id, "tally", 2)
    patch.remove()
    empty(kernel)


class Unshared:
    """A guest's RAM that cannot be written from outside."""

    def __init__(self, ram: Ram) -> None:
        self.size, self.live = ram.size, True
        self.read, self.array, self.touched = ram.read, ram.array, ram.touched


@pytest.mark.kernel("darwin")
def test_without_shared_memory_the_guest_is_stopped(kernel: Kernel, counter: Path) -> None:
    made = kernel.patch("run_netisr", c=counter)
    kernel.qemu.__dict__["ram"] = Unshared(kernel.qemu.ram)
    try:
        made.variables["tally"] = 500_000
        assert until(kernel, made.id, "tally", 500_000) < 600_000
        made.variables["stats.name"] = "x" * 16
        assert made.variables["stats.name"] == "x" * 16
    finally:
        del kernel.qemu.__dict__["ram"]
    made.remove()
    empty(kernel)


@pytest.mark.kernel("darwin")
def test_functions_of_payloads_are_called(kernel: Kernel, counter: Path) -> None:
    made = kernel.patch("run_netisr", c=counter)
    made.variables["ceiling"] = 100
    assert kernel.call("counter:raised", 5) == 105
    assert kernel.call(f"{made.id}:raised", 7) == 107
    with pytest.raises(Misuse, match="in the middle of a function, or none"):
        kernel.call(kernel.resolve_name("counter:raised") + 4)
    with pytest.raises(Misuse, match="rais"):
        kernel.call("counter:rais")
    made.remove()
    beat(kernel)
    empty(kernel)


@pytest.mark.kernel("darwin")
def test_the_commands(kernel: Kernel, counter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told(*words: str) -> str:
        assert run([*words]) == 0
        return capsys.readouterr().out

    made = kernel.patch("run_netisr", c=counter)
    assert told("set", kernel.name, "counter", "stats.wide", "-5") == "stats.wide = -5\n"
    assert told("get", kernel.name, str(made.id), "stats.wide") == "-5\n"
    assert told("set", kernel.name, "counter", "stats.mode", "ON") == "stats.mode = ON (3)\n"
    assert told("set", kernel.name, "counter", "stats.name", '"a b"') == 'stats.name = "a b"\n'
    record = json.loads(told("get", kernel.name, "counter", "stats", "--json"))
    assert record["patch"] == made.id
    assert (record["symbol"], record["type"]) == (f"{made.id}:stats.count[0]", "struct stats")
    assert {key: record["value"][key] for key in ("name", "mode", "wide")} == {
        "name": "a b",
        "mode": 3,
        "wide": -5,
    }
    every = [json.loads(line) for line in told("get", kernel.name, "counter", "--json").splitlines()]
    assert [one["name"] for one in every] == [*made.variables]
    assert "struct stats" in told("get", kernel.name, "counter")
    assert json.loads(told("bits", kernel.name, "netisr", "--json"))["free"][:3] == [0, 1, 3]
    assert "_arpintr" in told("bits", kernel.name, "netisr")
    assert run(["get", kernel.name, "counter", "taly"]) == 2
    assert "did you mean tally?" in capsys.readouterr().err
    assert run(["set", kernel.name, "counter", "version", "1"]) == 3
    assert run(["set", kernel.name, "counter", "tally", "-1"]) == 2
    made.remove()
    empty(kernel)
