from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kgdbpatch.kernel import Kernel

from .conftest import Cli

EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRAM = [sys.executable, "-c", "from kgdbpatch.cli import main; main()"]
PAYLOADS = {"darwin": ("run_netisr", "packet_counter.c"), "linux": ("udp_sendmsg", "udp_probe.c")}

APPLIED = {
    "id",
    "site",
    "symbol",
    "entry",
    "forced",
    "springboard",
    "springboard_symbol",
    "saved",
    "body_words",
    "guarded",
    "warnings",
    "pause_us",
}
CHECKED = {"site", "symbol", "ok", "rule", "reason", "nearest", "nearest_symbol", "springboard"}
CHECKED |= {"entry", "saved", "body_words"}
CLEAN: dict[str, list[object]] = {
    "mismatched": [],
    "mismatched_symbols": [],
    "kernel_changes": [],
    "unloaded": [],
}
LISTED = {"id", "site", "symbol", "state", "entry", "forced", "hits", "held_by", "skipped", "module"} | {
    *("update", "file", "since", "exits", "inside", "unreturned", "holds", "lost", "coverage")
}

pytestmark = pytest.mark.guest
each_guest = pytest.mark.parametrize(
    "profile",
    [
        pytest.param("darwin", marks=pytest.mark.kernel("darwin")),
        pytest.param("linux", marks=[pytest.mark.kernel("linux"), pytest.mark.linux]),
    ],
)


@each_guest
def test_the_main_job(guest_cli: Cli, kernel: Kernel, profile: str) -> None:
    name, (site, example) = kernel.name, PAYLOADS[profile]
    address = kernel.site_checker.entry(kernel.resolve(site))

    checked = guest_cli("check", name, site, "--json")
    assert checked.code == 0, checked.err
    assert set(checked.json) == CHECKED
    assert checked.json["ok"]
    assert checked.json["site"] == address

    dry = guest_cli("apply", name, site, "--c", EXAMPLES / example, "--dry-run", "--json")
    assert dry.code == 0, dry.err
    assert dry.json["id"] is None
    assert guest_cli("list", name, "--json").out == ""

    mark = kernel.log.position()
    applied = guest_cli("apply", name, site, "--c", EXAMPLES / example, "--json")
    assert applied.code == 0, applied.err
    assert set(applied.json) == APPLIED
    assert applied.json["site"] == address
    assert applied.json["saved"] == dry.json["saved"]
    assert (applied.json["springboard"] is not None) == checked.json["springboard"]
    assert applied.json["pause_us"] > 0

    tag = f"KernMonitor/{Path(example).stem}"
    kernel.log.wait(rf"{tag}: .* \| ([3-9]|\d\d+)\b", since=mark, deadline=30)
    listed = guest_cli("list", name, "--json")
    assert [set(patch) for patch in listed.json_lines] == [LISTED]
    assert listed.json["id"] == applied.json["id"]
    assert listed.json["state"] == "active"
    assert listed.json["hits"] >= 3
    logged = guest_cli("log", name, "--json")
    assert all(set(line) == {"time", "source", "message"} for line in logged.json_lines)
    assert any(tag in line["message"] for line in logged.json_lines)
    assert guest_cli("verify", name, "--json").json == {"ok": True, "patched": 1, **CLEAN}

    removed = guest_cli("remove", name, applied.json["id"], "--json")
    assert removed.code == 0, removed.err
    assert [(p["id"], p["state"] in {"removed", "retired"}) for p in removed.json_lines] == [
        (listed.json["id"], True)
    ]
    assert guest_cli("verify", name, "--json").json == {"ok": True, "patched": 0, **CLEAN}


class TestRefusals:
    """Each leaves the guest's text as it was."""

    @pytest.fixture(autouse=True)
    def untouched(self, kernel: Kernel) -> object:
        yield
        verified = kernel.verify()
        assert verified.ok
        assert verified.patched == 0
        assert kernel.patches == []

    def refused(self, cli: Cli, code: int, message: str, *arguments: object) -> None:
        result = cli(*arguments)
        assert result.code == code, result.err
        assert message in result.err
        assert result.err.startswith("kgdbpatch: error: ")
        assert result.out == ""

    def test_unknown_symbol(self, guest_cli: Cli, kernel: Kernel) -> None:
        self.refused(
            guest_cli, 2, "no symbol 'run_netisrr'", "apply", kernel.name, "run_netisrr", "--call", "printf"
        )
        self.refused(guest_cli, 2, "did you mean _run_netisr", "check", kernel.name, "run_netisrr")

    def test_unaligned(self, guest_cli: Cli, kernel: Kernel) -> None:
        self.refused(guest_cli, 3, "multiple of 4", "apply", kernel.name, "run_netisr+2", "--call", "printf")

    def test_data(self, guest_cli: Cli, kernel: Kernel) -> None:
        self.refused(guest_cli, 3, "not in a function", "apply", kernel.name, "netisr", "--call", "printf")

    def test_check_says_no_with_3(self, guest_cli: Cli, kernel: Kernel) -> None:
        result = guest_cli("check", kernel.name, "netisr", "--json")
        assert result.code == 3
        assert result.json["ok"] is False
        assert "netisr" in result.json["reason"]

    def test_no_such_patch(self, guest_cli: Cli, kernel: Kernel) -> None:
        self.refused(guest_cli, 2, "has no patch 99", "remove", kernel.name, 99)

    @pytest.mark.parametrize(
        ("option", "text", "message"),
        [
            ("--asm", "nop\nfoo r3\n", ":2: unrecognized opcode: `foo'"),
            ("--asm", "bl nowhere\n", ":1: no symbol 'nowhere'"),
            ("--c", "void f(void) { x = 1; }\n", "error: 'x' undeclared"),
            ("--c", "extern int nowhere; int f(void) { return nowhere; }\n", "no symbol 'nowhere'"),
        ],
    )
    def test_bad_payloads(
        self, guest_cli: Cli, kernel: Kernel, tmp_path: Path, option: str, text: str, message: str
    ) -> None:
        (tmp_path / "f.c").write_text(text)
        self.refused(guest_cli, 5, message, "apply", kernel.name, "run_netisr", option, tmp_path / "f.c")

    def test_missing_payloads(self, guest_cli: Cli, kernel: Kernel, tmp_path: Path) -> None:
        for option in ("--asm", "--c"):
            missing = tmp_path / "nothing"
            self.refused(guest_cli, 5, str(missing), "apply", kernel.name, "run_netisr", option, missing)

    def test_images_that_are_not_the_running_kernel(
        self, guest_cli: Cli, kernel: Kernel, tmp_path: Path
    ) -> None:
        data = bytearray(kernel.image.path.read_bytes())
        (tmp_path / "cut").write_bytes(data[: len(data) // 2])
        self.refused(guest_cli, 5, "truncated", "verify", kernel.name, "--image", tmp_path / "cut")
        data[data.rindex(b"netisr")] ^= 1
        (tmp_path / "other").write_bytes(data)
        message = "is not the kernel that runs"
        for command in (["verify"], ["list"], ["check"], ["apply"], ["remove"]):
            rest = {"check": ["run_netisr"], "apply": ["run_netisr", "--call", "printf"], "remove": ["--all"]}
            arguments = [*command, kernel.name, *rest.get(command[0], [])]
            self.refused(guest_cli, 5, message, *arguments, "--image", tmp_path / "other")


def test_the_same_file_elsewhere_is_the_running_kernel(
    guest_cli: Cli, kernel: Kernel, tmp_path: Path
) -> None:
    (tmp_path / "copy").write_bytes(kernel.image.path.read_bytes())
    assert guest_cli("verify", kernel.name, "--image", tmp_path / "copy", "--json").json["ok"]


def test_live_of_a_guest_is_live_of_its_file(guest_cli: Cli, kernel: Kernel) -> None:
    running = guest_cli("live", kernel.name, "run_netisr", "--json")
    assert running.code == 0
    assert running.json == guest_cli("live", kernel.image.path, "run_netisr", "--json").json


def test_functions_of_a_guest(guest_cli: Cli, kernel: Kernel) -> None:
    listed = guest_cli("functions", kernel.name, "run_netisr", "--json").json
    assert listed["address"] == kernel.image.lookup("run_netisr")


def test_ps_lists_the_guest(guest_cli: Cli, kernel: Kernel) -> None:
    found = [guest for guest in guest_cli("ps", "--json").json_lines if guest["name"] == kernel.name]
    expected = {"name": kernel.name, "pid": kernel.pid, "state": "running", "kernel": str(kernel.image.path)}
    assert found == [expected]


def test_log_follows(kernel: Kernel, request: pytest.FixtureRequest) -> None:
    command = [*PROGRAM, "log", kernel.name, "-f", "-n", "0", "--json"]
    follower = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    request.addfinalizer(follower.communicate)
    request.addfinalizer(follower.kill)  # the last one given comes first
    assert follower.stdout is not None
    with kernel.patch("run_netisr", c=EXAMPLES / "packet_counter.c"):
        line = next(line for line in follower.stdout if "packet_counter" in line)
    assert "KernMonitor/packet_counter: netisr value: 0x" in json.loads(line)["message"]


def test_boot_and_shutdown(guest_cli: Cli, request: pytest.FixtureRequest) -> None:
    name = "cli-boot"
    request.addfinalizer(lambda: guest_cli("shutdown", name))
    booted = guest_cli("boot", "darwin", "--name", name, "--json")
    assert booted.code == 0, booted.err
    assert set(booted.json) == {"name", "pid", "state", "kernel", "boot_seconds"}
    assert booted.json["state"] == "running"
    again = guest_cli("boot", "darwin", "--name", name)
    assert again.code == 2
    assert f"guest '{name}' is running" in again.err
    ended = guest_cli("shutdown", name, "--json")
    assert ended.code == 0, ended.err
    assert ended.json["pid"] == booted.json["pid"]
    assert name not in guest_cli("ps").out
    assert guest_cli("list", name).code == 2


def test_check_of_a_guest_is_check_of_its_file(guest_cli: Cli, kernel: Kernel) -> None:
    running = guest_cli("check", kernel.name, "ip_*", "--json").json_lines
    assert len(running) > 1
    assert running == guest_cli("check", kernel.image.path, "ip_*", "--json").json_lines
    summary = guest_cli("check", kernel.name, "ip_*", "--summary", "--json").json
    assert summary == guest_cli("check", kernel.image.path, "ip_*", "--summary", "--json").json


@pytest.mark.kernel("darwin")
def test_a_glob_counts_many_functions(guest_cli: Cli, kernel: Kernel) -> None:
    named = guest_cli("functions", kernel.name, "ip_*", "--json").json_lines
    assert len(named) > 1
    applied = guest_cli("apply", kernel.name, "ip_*", "--count", "--json")
    assert applied.code == 0, applied.err
    assert [patch["site"] for patch in applied.json_lines] == [function["address"] for function in named]
    kernel.log.wait("selfcheck", deadline=30, since=kernel.log.position())
    kernel.log.wait("selfcheck", deadline=30, since=kernel.log.position())
    assert any(patch["hits"] for patch in guest_cli("list", kernel.name, "--json").json_lines)
    nothing = guest_cli("apply", kernel.name, "no_such_*", "--count")
    assert nothing.code == 2
    refused = guest_cli("apply", kernel.name, ".L_handler*", "--count")
    assert refused.code == 3
    assert "is reached from an exception vector" in refused.err
    assert guest_cli("remove", kernel.name, "--all").code == 0
    assert guest_cli("verify", kernel.name, "--json").json["patched"] == 0


def test_a_forced_patch_and_a_trap(guest_cli: Cli, kernel: Kernel, tmp_path: Path) -> None:
    source = tmp_path / "nop.s"
    source.write_text("nop\n")
    order = ("apply", kernel.name, "hw_atomic_add+0x8", "--asm", source, "--json")
    assert guest_cli(*order).code == 3
    assert guest_cli(*order, "--force").json["forced"] == ["reservation"]
    trapped = guest_cli("apply", kernel.name, "run_netisr", "--count", "--via", "trap", "--json")
    assert (trapped.json["entry"], trapped.json["springboard"]) == ("trap", None)
    listed = guest_cli("list", kernel.name, "--json").json_lines
    assert [(patch["entry"], patch["forced"]) for patch in listed] == [
        ("branch", ["reservation"]),
        ("trap", []),
    ]
    assert "forced" in guest_cli("list", kernel.name).out
    assert guest_cli("apply", kernel.name, "run_netisr", "--count", "--via", "magic").code == 2
