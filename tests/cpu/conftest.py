"""What the tests on QEMU's CPU need."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator

import pytest

from kgdbpatch.vm.gdb import Debugger
from kgdbpatch.vm.qemu import Qemu


@pytest.fixture(scope="module")
def runtime() -> Iterator[None]:
    """A runtime directory with a path short enough for sockets."""
    directory = tempfile.mkdtemp(prefix="kgdbpatch-")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("KGDBPATCH_RUNTIME", directory)
        yield
    shutil.rmtree(directory)


@pytest.fixture
def debugger(guest: Qemu) -> Iterator[Debugger]:
    with Debugger(guest) as debugger:
        yield debugger
