"""The command console on a guest that the tests share: Linux's init answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from kgdbpatch.kernel import Kernel

from .test_console import LEAVE, left, piped, terminal

pytestmark = pytest.mark.guest


@pytest.mark.linux
@pytest.mark.kernel("linux")
def test_of_linux(kernel: Kernel, tmp_path: Path) -> None:
    kernel.console.sendline("read /proc/version")
    version = kernel.console.expect(r"read: (Linux version \S+)")[1]
    kernel.console.expect("init: done read /proc/version\n")
    assert [exchange.sent for exchange in kernel.console.transcript] == ["", "read /proc/version\r"]
    done = piped("read /proc/version\n", kernel.name, "--until", "(done|failed) read")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"read: {version}" in done.stdout
    spawned = terminal("console", kernel.name)
    spawned.expect_exact("leaves")
    spawned.send("read /proc/version\r")
    spawned.expect_exact(f"read: {version}")
    spawned.send(LEAVE)
    assert left(spawned) == 0
    kernel.assure_alive()
