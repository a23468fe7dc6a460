"""What holds for all tests."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from kgdbpatch.vm import runtime

settings.register_profile("no times", deadline=None)  # machines are busy at times
settings.load_profile("no times")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--zoo`` and ``--turn``."""
    parser.addoption("--zoo", action="store_true", help="run every kernel on every board, and nothing else")
    parser.addoption("--turn", type=int, metavar="N", help="with --zoo: one board's, another with each N")


def pytest_configure(config: pytest.Config) -> None:
    """Choose by markers; a worker's guests are not seen by another one."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is not None:
        directory = runtime.private_directory()
        os.environ["KGDBPATCH_RUNTIME"] = f"{directory}-{worker}"
    if config.getoption("--zoo"):
        config.option.markexpr = "zoo"
