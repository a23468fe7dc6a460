"""Real QEMUs with a few instructions of bare-metal code, no firmware, no kernel."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kgdbpatch.vm.gdb import Debugger
from kgdbpatch.vm.qemu import Qemu

from . import baremetal
from .baremetal import Starter


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that run QEMU where it is missing, but never in CI."""
    missing = [tool for tool in ("qemu-system-ppc", "gdb-multiarch") if shutil.which(tool) is None]
    for item in items:
        ours = Path(__file__).parent in item.path.parents and item.get_closest_marker("guest")
        if ours and missing and not os.environ.get("CI"):
            item.add_marker(pytest.mark.skip(reason=f"not installed: {', '.join(missing)}"))


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "program.bin"
    path.write_bytes(baremetal.image())
    return path


@pytest.fixture(scope="module")
def runtime() -> Iterator[Path]:
    """A runtime directory of some tests, with a path short enough for sockets."""
    directory = Path(tempfile.mkdtemp(prefix="kgdbpatch-"))
    try:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("KGDBPATCH_RUNTIME", str(directory))
            yield directory
    finally:
        shutil.rmtree(directory)


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Have SIGINT interrupt, which whoever runs the tests may ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def start(runtime: Path, program: Path) -> Iterator[Starter]:
    """Start guests that run the counting loop; whatever of them still runs is ended."""
    started: list[Qemu] = []

    def begin(name: str) -> Qemu:
        started.append(baremetal.start(name, program))
        return started[-1]

    yield begin
    for qemu in started:
        qemu.shutdown()


@pytest.fixture(scope="module")
def qemu(runtime: Path, program: Path) -> Iterator[Qemu]:
    with baremetal.start("shared", program) as started:
        yield started


@pytest.fixture(scope="module")
def debugger(qemu: Qemu) -> Iterator[Debugger]:
    with Debugger(qemu) as started:
        yield started
