"""What the tests on QEMU's CPU need."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator

import pytest


@pytest.fixture
def short_runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A runtime directory with a path short enough for sockets."""
    directory = tempfile.mkdtemp(prefix="kgdbpatch-")
    monkeypatch.setenv("KGDBPATCH_RUNTIME", directory)
    yield
    shutil.rmtree(directory)
