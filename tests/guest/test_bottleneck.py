"""What makes a kernel slow is found: ten slow spots, planted in the bundled Darwin and in Linux modules."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kgdbpatch.errors import Misuse
from kgdbpatch.guests import linux_build
from kgdbpatch.guests.linux_tree import cached_tree
from kgdbpatch.guests.sources import guest_sources
from kgdbpatch.kernel import Kernel
from kgdbpatch.kernel.bottleneck import CPU, Search
from kgdbpatch.profiles.rows import BottleneckRow

from .test_modules import obeyed

pytestmark = pytest.mark.long

HERE = Path(__file__).parent / "planted"
REQUEST = "planted_request"
MINUTE = 60.0
# what is asked, the function that is to be found, why
DARWIN = [
    (REQUEST, "look_up_port", "computes"),
    (REQUEST, "copy_packet", "computes"),
    (REQUEST, "rebuild_table", "waits"),
    ("hardclock", "refresh_statistics", "computes"),
    (REQUEST, "hash_path", "calls"),
]
LINUX = [
    (REQUEST, "find_session", "computes"),
    (REQUEST, "copy_frame", "computes"),
    (REQUEST, "write_back", "waits"),
    ("run_timer_softirq", "poll_statistics", "computes"),
    (CPU, "wait_for_device", "computes"),
]


def silent(what: str) -> None:
    """Say nothing."""


def found(kernel: Kernel, asked: str) -> BottleneckRow:
    """Search, and see that it is done in a minute, by little, and that nothing is left."""
    began = time.monotonic()
    row = Search(kernel, asked).run()
    assert time.monotonic() - began < MINUTE
    assert 0 < row.functions < 0.05 * row.of
    assert sum(count for _, count, _ in row.instrumented) >= row.functions
    kernel.remove_all()
    verified = kernel.verify()
    assert (verified.ok, verified.patched) == (True, 0)
    return row


@pytest.fixture(scope="module")
def darwin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    images = tmp_path_factory.mktemp("planted")
    tree = images / "darwin"
    shutil.copytree(guest_sources("darwin"), tree)
    for beside in ("macho.py", "macho_object.py"):
        shutil.copy(guest_sources("darwin").parent / beside, images)
    shutil.copy(HERE / "slow_darwin.c", tree / "work/slow.c")
    startup = tree / "kern/startup.c"
    text = startup.read_text()
    assert text.count("    selfcheck_start();\n") == 1
    text = text.replace("    selfcheck_start();\n", "    selfcheck_start();\n    planted_start();\n")
    startup.write_text(
        text.replace("void machine_startup(", "void planted_start(void);\nvoid machine_startup(", 1)
    )
    built = images / "built"
    subprocess.run([sys.executable, tree / "build.py", built], check=True, capture_output=True)
    with Kernel.boot("darwin", f"pytest-{os.getpid()}-slow", kernel=built / "mach_kernel") as kernel:
        yield kernel


@pytest.mark.parametrize("spot", range(1, len(DARWIN) + 1), ids=[row[1] for row in DARWIN])
def test_darwin(darwin: Kernel, spot: int) -> None:
    asked, function, why = DARWIN[spot - 1]
    darwin.memory.write(darwin.resolve("planted"), spot)
    row = found(darwin, asked)
    print(row)
    assert (row.function.lstrip("_"), row.why) == (function, why)
    if why != "waits":
        assert row.loop is not None
    darwin.memory.write(darwin.resolve("planted"), 0)


@pytest.mark.linux
@pytest.mark.parametrize("spot", range(1, len(LINUX) + 1), ids=[row[1] for row in LINUX])
def test_linux(linux: Kernel, spot: int) -> None:
    asked, function, why = LINUX[spot - 1]
    obeyed(linux, f"insmod /lib/slow{spot}.ko")
    try:
        row = found(linux, asked)
        print(row)
        assert (row.function.split(" ")[0], row.why) == (function, why)
    finally:
        obeyed(linux, f"rmmod slow{spot}")


@pytest.fixture(scope="module")
def linux(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    tree = cached_tree(silent, ["modules_prepare", "arch/powerpc/lib/crtsavres.o"])
    modules = []
    for spot in range(1, len(LINUX) + 1):
        place = tmp_path_factory.mktemp(f"slow{spot}")
        shutil.copy(HERE / "slow_linux.c", place / f"slow{spot}.c")
        (place / "Makefile").write_text(f"obj-m := slow{spot}.o\nccflags-y := -DSPOT={spot}\n")
        linux_build._make(tree, [f"M={place}", "modules"], silent, KBUILD_MODPOST_WARN="1")
        modules.append(place / f"slow{spot}.ko")
    initrd = linux_build.build_initramfs(silent, modules)
    recipe = tmp_path_factory.mktemp("recipe") / "slow.toml"
    text = Path(linux_build.__file__).with_name("linux.toml").read_text()
    recipe.write_text(text.replace('initrd = "build_initramfs"', f'initrd = "{initrd}"'))
    with Kernel.boot(recipe, f"pytest-{os.getpid()}-slow-linux") as kernel:
        yield kernel


@pytest.mark.kernel("darwin")
def test_what_nobody_calls_is_told(kernel: Kernel) -> None:
    with pytest.raises(Misuse, match="no call of panic was under way at any of"):
        Search(kernel, "panic", seconds=0.5).run()
