"""Shared by the tests that need a guest."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test here; skip them where QEMU is missing, but never in CI."""
    missing = [tool for tool in ("qemu-system-ppc", "gdb-multiarch") if shutil.which(tool) is None]
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.guest)
            if missing and not os.environ.get("CI"):
                item.add_marker(pytest.mark.skip(reason=f"not installed: {', '.join(missing)}"))


@pytest.fixture
def examples() -> Path:
    return EXAMPLES
