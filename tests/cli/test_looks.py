"""``threads``, ``bt``, ``regs``, ``pause``, ``resume``, ``snapshot`` by command lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from kgdbpatch.kernel import Kernel
from kgdbpatch.results import PatchState

from .conftest import Cli

each_guest = pytest.mark.parametrize(
    "function",
    [
        pytest.param("run_netisr", marks=pytest.mark.kernel("darwin")),
        pytest.param("udp_sendmsg", marks=[pytest.mark.kernel("linux"), pytest.mark.linux, pytest.mark.long]),
    ],
)


def state(cli: Cli, kernel: Kernel) -> str:
    return str(cli("ps", kernel.name, "--json").json["state"])


@each_guest
def test_rows(guest_cli: Cli, kernel: Kernel, function: str) -> None:
    rows = guest_cli("threads", kernel.name, "--json").json_lines
    assert {"thread", "id", "pid", "name", "state", "cpu", "pc", "symbol"} == rows[0].keys()
    (trace,) = guest_cli("bt", kernel.name, "--json").json_lines
    assert trace["cpu"] == 0
    assert {"level", "address", "symbol", "kind", "sp", "patch", "function"} <= trace["frames"][0].keys()
    registers = guest_cli("regs", kernel.name, "--cpu", 0, "--json").json
    assert registers["registers"]["pvr"] == 0x80301
    shown = guest_cli("regs", kernel.name).out
    assert "srr0" in shown
    assert "f31" not in shown
    assert "f31" in guest_cli("regs", kernel.name, "--all").out
    table = guest_cli("threads", kernel.name).out.splitlines()
    assert table[0].split() == ["ID", "PID", "NAME", "STATE", "CPU", "PC", "SYMBOL"]
    assert len(table) > 20
    everybody = guest_cli("bt", kernel.name, "--all", "--no-lines").out
    assert everybody.count("#0 ") > 20


@each_guest
def test_a_paused_guest_is_worked_on_and_stays_paused(guest_cli: Cli, kernel: Kernel, function: str) -> None:
    name = kernel.name
    assert guest_cli("pause", name).out == f"{name} is paused\n"
    assert guest_cli("pause", name).out == f"{name} was paused already\n"
    assert state(guest_cli, kernel) == "paused"
    printed = kernel.qemu.console.size()
    for words in (
        ("apply", name, function, "--count"),
        ("list", name),
        ("verify", name),
        ("check", name, function),
        ("live", name, function),
        ("bt", name, "--no-lines"),
        ("threads", name),
        ("regs", name),
        ("functions", f"memory:{name}", "printk*"),
        ("log", name, "-n", 1),
        ("snapshot", "save", name, "paused"),
        ("remove", name, "--all"),
        ("snapshot", "restore", name, "paused"),
        ("list", name),
        ("remove", name, "--all"),
        ("doctor", name),
    ):
        done = guest_cli(*words)
        assert done.code in ((0, 2) if words[0] == "functions" else (0,)), (words, done.err)
        assert not kernel.qemu.runs(), words
    assert kernel.qemu.console.size() == printed
    assert guest_cli("resume", name, "--json").json["state"] == "running"
    assert state(guest_cli, kernel) == "running"
    again = guest_cli("resume", name)
    assert (again.code, again.out) == (0, f"{name} was running already\n")
    kernel.proof_of_life()


@each_guest
def test_snapshots(guest_cli: Cli, kernel: Kernel, function: str) -> None:
    name = kernel.name
    (applied,) = guest_cli("apply", name, function, "--count", "--json").json_lines
    saved = guest_cli("snapshot", "save", name, "patched", "--json").json
    assert (saved["tag"], saved["patches"]) == ("patched", [applied["id"]])
    assert saved["size"] > 1 << 16
    assert guest_cli("remove", name, "--all").code == 0
    assert guest_cli("snapshot", "save", name, "plain").code == 0
    rows = {row["tag"]: row for row in guest_cli("snapshot", "list", name, "--json").json_lines}
    assert (rows["patched"]["patches"], rows["plain"]["patches"]) == ([applied["id"]], [])
    assert rows["patched"]["date"] <= rows["plain"]["date"]
    assert rows["patched"]["uptime"] < rows["plain"]["uptime"]
    restored = guest_cli("snapshot", "restore", name, "patched")
    assert restored.out == f"'{name}' is as it was at 'patched': 1 patch\n"
    (row,) = guest_cli("list", name, "--json").json_lines
    assert (row["id"], row["state"]) == (applied["id"], PatchState.ACTIVE)
    verified = guest_cli("verify", name, "--json").json
    assert (verified["ok"], verified["patched"]) == (True, 1)
    (other,) = guest_cli("apply", name, function, "--count", "--json").json_lines
    assert other["id"] > applied["id"]
    assert guest_cli("remove", name, "--all").code == 0
    assert state(guest_cli, kernel) == "running"
    for tag in ("patched", "plain"):
        assert guest_cli("snapshot", "delete", name, tag, "--json").json == {"tag": tag}
    assert "patched" not in guest_cli("snapshot", "list", name).out


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("bt", "NAME", "nobody"), 2, "no thread 'nobody'"),
        (("bt", "NAME", "netwrok"), 2, "did you mean network?"),
        (("bt", "NAME", "1", "--all"), 2, "a THREAD, or --all"),
        (("regs", "NAME", "--cpu", "1"), 2, "has no CPU 1"),
        (("regs", "NAME", "--cpu", "-1"), 2, "--cpu"),
        (("threads", "nosuch"), 2, "no guest 'nosuch'"),
        (("pause", "nosuch"), 2, "no guest 'nosuch'"),
        (("snapshot", "save", "NAME", "1"), 2, "cannot name a snapshot"),
        (("snapshot", "save", "NAME", "a b"), 2, "cannot name a snapshot"),
        (("snapshot", "restore", "NAME", "boted"), 2, "did you mean booted?"),
        (("snapshot", "restore", "NAME", "x; quit"), 2, "no snapshot"),
        (("snapshot", "delete", "NAME", "zzz"), 2, "no snapshot 'zzz'; there are booted"),
        (("gdb", "NAME", "--symbols", "/nosuch"), 5, "/nosuch"),
    ],
)
def test_what_makes_no_sense(
    guest_cli: Cli, kernel: Kernel, words: tuple[str, ...], code: int, told: str
) -> None:
    done = guest_cli(*(kernel.name if word == "NAME" else word for word in words))
    assert (done.code, done.out) == (code, ""), done.err
    assert told in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.panics
def test_a_dead_guest(guest_cli: Cli, kernel: Kernel, tmp_path: Path) -> None:
    name = kernel.name
    assert guest_cli("snapshot", "save", name, "alive").code == 0
    source = tmp_path / "dies.c"
    source.write_text('extern void panic(const char *, ...); void dies(void) { panic("on purpose"); }')
    since = kernel.qemu.console.position()
    kernel.patch("run_netisr", c=source)
    kernel.qemu.console.wait("panic", 30, since)
    for words in (("bt", name), ("threads", name), ("regs", name), ("pause", name)):
        assert guest_cli(*words).code == 0
    assert ":dies+" in guest_cli("bt", name, "--no-lines").out
    for refused in (("resume", name), ("snapshot", "save", name, "dead")):
        done = guest_cli(*refused)
        assert done.code == 4
        assert "has panicked" in done.err
    assert guest_cli("snapshot", "restore", name, "alive").code == 0
    assert state(guest_cli, kernel) == "paused"  # as it was
    assert guest_cli("resume", name).code == 0
    kernel.proof_of_life()
    assert guest_cli("list", name, "--json").json_lines == []
    assert guest_cli("snapshot", "delete", name, "alive").code == 0
