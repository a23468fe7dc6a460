"""The source patches on a Linux of two CPUs at the same time (an e500v2 board), two hundred rounds each."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kgdbpatch.guests import linux_build
from kgdbpatch.guests.linux_tree import cached_tree
from kgdbpatch.guests.sources import guest_sources
from kgdbpatch.kernel import Kernel
from kgdbpatch.updates.archive import write_update
from kgdbpatch.updates.build import build_update

from .observations import OBSERVED
from .work import beat, empty

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(14400),
    pytest.mark.skipif(shutil.which("qemu-system-ppc64") is None, reason="no QEMU runs two at the same time"),
]
ROUNDS = 200
BUNDLED = Path(linux_build.__file__).with_name("linux-e500-smp.toml")


def silent(what: str) -> None:
    """Say nothing."""


def test_two_hundred_rounds_on_two_cpus(tmp_path: Path) -> None:
    tree = cached_tree(silent, ["vmlinux"], [guest_sources("linux") / "e500/config"])
    initrd = linux_build.build_initramfs(silent, cpu="8548")
    recipe = tmp_path / "smp.toml"
    text = BUNDLED.read_text()
    text = text.replace('builder = "kgdbpatch.guests.linux_e500"', f'kernel = "{tree / "vmlinux"}"')
    recipe.write_text(text.replace('initrd = "build_initramfs"', f'initrd = "{initrd}"'))
    pauses = []
    with Kernel.boot(recipe) as kernel:
        assert kernel.qemu.cpus() == 2
        for one in OBSERVED:
            path = tmp_path / f"{one.name}.kup"
            write_update(build_update(one.patch, tree, silent), path)
            assert one.look(kernel) == one.before
            for number in range(ROUNDS):
                kernel.updates.apply(path, accept=["all"], wait=60)
                pauses.append(kernel.updates.pause_us)
                if number in (0, ROUNDS - 1):
                    assert one.look(kernel) == one.after
                kernel.updates.remove(one.name, wait=60)
            assert one.look(kernel) == one.before
            beat(kernel)
        empty(kernel)
    print(f"two CPUs: {len(pauses)} updates, still for {sorted(pauses)[len(pauses) // 2]} us at the median")
