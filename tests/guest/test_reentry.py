"""Payloads that come back to their own site, and those that never leave it, on both guests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kgdbpatch.errors import Refused
from kgdbpatch.kernel import Kernel

pytestmark = pytest.mark.long

PROGRAM = [sys.executable, "-c", "from kgdbpatch.cli import main; main()"]
# the function that logs, the one that it goes through, where a payload is put
LOGS = {"darwin": ("printf", "printf"), "linux": ("_printk", "vprintk_emit")}

each_guest = pytest.mark.parametrize(
    "profile",
    [
        pytest.param("darwin", marks=pytest.mark.kernel("darwin")),
        pytest.param("linux", marks=[pytest.mark.kernel("linux"), pytest.mark.linux]),
    ],
)


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, check=False)


@each_guest
def test_a_payload_that_logs_where_the_kernel_logs(kernel: Kernel, profile: str, tmp_path: Path) -> None:
    logs, site = LOGS[profile]
    source = tmp_path / "deeper.c"
    source.write_text(
        f"int {logs}(const char *, ...);\nstatic int n;\n"
        f'void deeper(void) {{ if (++n <= 3) {logs}("<5>deeper: %d\\n", n); }}\n'
    )
    mark = kernel.log.position()
    applied = cli("apply", kernel.name, site, "--c", str(source), "--json")
    assert applied.returncode == 0, applied.stderr
    told = json.loads(applied.stdout)
    assert told["guarded"]
    assert len(told["warnings"]) == 1
    assert "comes back to its own site" in told["warnings"][0]
    assert told["warnings"][0] in applied.stderr
    kernel.log.wait(r"deeper: 3\b", since=mark, deadline=60)
    assert json.loads(cli("list", kernel.name, "--json").stdout)["skipped"] >= 3
    kernel.remove(told["id"])
    assert kernel.verify().ok


@each_guest
def test_each_hit_is_counted_once_or_as_skipped(kernel: Kernel, profile: str, tmp_path: Path) -> None:
    logs, site = LOGS[profile]
    source = tmp_path / "deeper.c"
    source.write_text(f'int {logs}(const char *, ...);\nvoid deeper(void) {{ {logs}(""); }}\n')
    with kernel.patch(site, count=True) as below, kernel.patch(site, c=source) as patch:
        for _ in range(2):  # a line may have been on its way when the patch was put in
            kernel.log.wait("selfcheck", since=kernel.log.position(), deadline=60)
        with kernel.stopped():
            found = {p.id: p for p in kernel.patches}
        ours, all_of_them = found[patch.id], found[below.id]
        assert ours.hits is not None
        assert ours.skipped is not None
        assert ours.hits > 0
        passed = ours.hits + ours.skipped
        # the older patch was there before; threads may be on their way between the two
        assert passed <= (all_of_them.hits or 0) + 2


@each_guest
def test_an_ordinary_payload_is_not_warned_of(kernel: Kernel, profile: str) -> None:
    leaf = kernel.plan(LOGS[profile][1], count=True)
    assert not leaf.guarded
    assert leaf.warnings == ()


@each_guest
def test_the_stack_that_the_kernel_has(kernel: Kernel, profile: str, tmp_path: Path) -> None:
    source, size = tmp_path / "f.c", {"darwin": 16384, "linux": 8192}[profile]
    source.write_text(
        'int f(int n) { char a[20000]; __asm__ volatile("" :: "r"(a) : "memory"); return a[n]; }'
    )
    with pytest.raises(Refused, match=rf"20,016 bytes .* {size:,} bytes") as refused:
        kernel.plan(LOGS[profile][1], c=source)
    assert refused.value.rule == "stack depth"


@pytest.mark.kernel("linux")
@pytest.mark.linux
def test_assembler_calls_what_is_in_reach_of_the_near_window(kernel: Kernel) -> None:
    planned = kernel.plan("udp_sendmsg", asm="bl _printk")
    assert planned.entry == "branch"
    assert planned.guarded


@pytest.mark.kernel("darwin")
def test_the_kernels_name_defined_anew(kernel: Kernel, tmp_path: Path) -> None:
    source = tmp_path / "f.c"
    source.write_text("int netisr; static int printf; int f(void) { return netisr + printf; }")
    (warning,) = kernel.plan("run_netisr", c=source).warnings
    assert f"0x{kernel.image.lookup('netisr'):08x}" in warning


@pytest.mark.parametrize("source", ["while (!go);", 'while (!go) printf("");'])
def test_an_endless_loop_is_named(tmp_path: Path, source: str) -> None:
    path = tmp_path / "f.c"
    path.write_text(f"int printf(const char *, ...); static volatile int go; void f(void) {{ {source} }}")
    with Kernel.boot("darwin", f"loop-{tmp_path.name}"[-40:]) as kernel:
        patch = kernel.patch("run_netisr", c=path)
        while not kernel.cpus_inside():
            assert kernel.alive
        ((identity, (holder,)),) = kernel.cpus_inside().items()
        assert (identity, holder.by) == (patch.id, "CPU 0")
        listed = cli("list", kernel.name, "--json")
        assert json.loads(listed.stdout.splitlines()[0])["held_by"][0]["by"] == "CPU 0"
