"""Patches that somebody never leaves are named while the kernel runs on; slow and sleeping ones are not."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from kgdbpatch.kernel import Kernel, catalog

pytestmark = [pytest.mark.long, pytest.mark.kernel("linux"), pytest.mark.linux]
PROGRAM = [sys.executable, "-c", "from kgdbpatch.cli import main; main()"]
T = TypeVar("T")
SITE = "udp_sendmsg"  # threads come here that the kernel takes the CPU from: it runs on

LOOPS = {
    "tight": "1: b 1b",
    "in memory": "1: lwz 9, 0(1)\n stw 9, 0(1)\n b 1b",
    "calls": "int _printk(const char *, ...); static volatile int go;\n"
    'void f(void) { while (!go) _printk(""); }',
    "own functions": "static volatile int go, n; static __attribute__((noinline)) void step(void) { n++; }\n"
    "void f(void) { while (!go) step(); }",
}
SOUND = {
    "sleeps": "void msleep(unsigned); void f(void) { msleep(5000); }",
    "sleeps on and on": "void msleep(unsigned); void f(void) { for (int i = 0; i < 500; i++) msleep(9); }",
    "slow": "lis 9, 0x80\n mtctr 9\n1: bdnz 1b",
    "slow and counted": "static volatile int n; void f(void) { for (int i = 0; i < 100000; i++) n++; }",
    "hot": "static volatile int n; void f(void) { n++; }",
}


def put_in(kernel: Kernel, site: str, text: str, scratch: Path) -> int:
    if "void f(" not in text:
        return kernel.patch(site, asm=text).id
    path = scratch / "payload.c"
    path.write_text(text)
    return kernel.patch(site, c=path, entry="f").id


def seen(kernel: Kernel, look: Callable[[], T]) -> T:
    """Look until something is found: moments on a busy host may all miss a thread that shares its CPU."""
    while not (found := look()):
        assert kernel.alive
    return found


def holders(kernel: Kernel) -> list[dict[str, str]]:
    done = subprocess.run(
        [*PROGRAM, "list", kernel.name, "--json"], capture_output=True, text=True, check=True
    )
    (listed,) = done.stdout.splitlines()
    found: list[dict[str, str]] = json.loads(listed)["held_by"]
    return found


def reason(kernel: Kernel) -> str:
    (told,) = (guest for guest in catalog.known() if guest.name == kernel.name)
    assert told.state == "running"
    return told.reason


def some(names: dict[str, str], *cheap: str) -> list[object]:
    return [name if name in cheap else pytest.param(name, marks=pytest.mark.soak) for name in names]


@pytest.mark.panics
@pytest.mark.parametrize("loop", some(LOOPS, "calls"))
def test_a_thread_that_loops_is_named(kernel: Kernel, loop: str, tmp_path: Path) -> None:
    kernel.log.wait("selfcheck", deadline=60)
    patch = put_in(kernel, SITE, LOOPS[loop], tmp_path)
    found = seen(kernel, kernel.cpus_inside)
    assert list(found) == [patch]
    assert all(holder.by.startswith("CPU 0") for holder in found[patch])
    assert any("'udp'" in holder.by or holder.by == "CPU 0" for holder in found[patch])
    assert seen(kernel, lambda: holders(kernel))[0]["by"].startswith("CPU 0")
    told = seen(kernel, lambda: reason(kernel))
    place = kernel.image.symbolize(kernel.find_patch(patch).site)
    assert f"patch {patch} at {place} does not end: CPU 0" in told
    kernel.remove(patch)  # its thread stays inside
    assert patch in seen(kernel, kernel.cpus_inside)


@pytest.mark.parametrize("payload", some(SOUND, "slow"))
def test_a_thread_that_leaves_is_not_named(kernel: Kernel, payload: str, tmp_path: Path) -> None:
    kernel.log.wait("selfcheck", deadline=60)
    put_in(kernel, "do_sys_openat2", SOUND[payload], tmp_path)
    mark = kernel.log.position()
    for _ in range(3):
        kernel.log.wait("init:|selfcheck", since=mark, deadline=60)
        mark = kernel.log.position()
        assert kernel.cpus_inside() == {}
    assert kernel.endless() == ""


INNER = """
import pytest

@pytest.mark.kernel("linux")
def test_loops(kernel):
    kernel.patch("{site}", asm="1: b 1b")

@pytest.mark.kernel("linux")
def test_has_looped(kernel):
    with kernel.patch("{site}", asm="1: b 1b"):
        while not kernel.cpus_inside():
            pass

@pytest.mark.kernel("linux")
def test_sleeps(kernel, tmp_path):
    (tmp_path / "f.c").write_text("void msleep(unsigned); void f(void) {{ msleep(3000); }}")
    patch = kernel.patch("{site}", c=tmp_path / "f.c")
    while not patch.hits:
        pass

@pytest.mark.kernel("linux")
def test_is_slow(kernel):
    kernel.patch("do_sys_openat2", asm="lis 9, 0x80\\n mtctr 9\\n1: bdnz 1b")
"""


@pytest.mark.soak
def test_a_test_that_leaves_a_loop_behind_fails(tmp_path: Path) -> None:
    (tmp_path / "test_inner.py").write_text(INNER.format(site=SITE))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", "test_inner.py"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).stdout
    results = {name: f"PASSED test_inner.py::test_{name}" in said for name in ("sleeps", "is_slow")}
    results |= {name: f"FAILED test_inner.py::test_{name}" in said for name in ("loops", "has_looped")}
    assert all(results.values()), said
    assert re.search(rf"at {SITE}(\+0x[0-9a-f]+)? does not end: CPU 0", said)
