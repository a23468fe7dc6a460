"""Give tests the fixture ``kernel``: a booted guest, put back to its booted state for every test.

The profile is that of the test's marker ``@pytest.mark.kernel("linux")``, else the option
``--kernel-profile`` (``darwin``). Each profile is booted once per session and, under pytest-xdist,
once per worker; a snapshot brings it back between tests.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from kgdbpatch.kernel import Kernel

__all__ = ["kernel"]

_BOOTED = "booted"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--kernel-profile``."""
    group = parser.getgroup("kgdbpatch")
    group.addoption(
        "--kernel-profile",
        default="darwin",
        metavar="PROFILE",
        help="guest that the fixture 'kernel' boots when a test has no marker (darwin)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", "kernel(profile): the guest that the fixture 'kernel' boots")


class _Guests:
    """The guests of one session, one per profile."""

    def __init__(self, worker: str) -> None:
        self._worker, self._booted = worker, dict[str, Kernel]()

    def get(self, profile: str) -> Kernel:
        guest = self._booted.get(profile)
        if guest is None or not guest.alive:
            if guest is not None:
                guest.shutdown()
            guest = Kernel.boot(profile, f"pytest-{os.getpid()}-{self._worker}-{profile}")
            self._booted[profile] = guest
            guest.snapshot(_BOOTED)
        else:
            guest.restore(_BOOTED)
        return guest

    def shutdown(self) -> None:
        for guest in self._booted.values():
            guest.shutdown()


@pytest.fixture(scope="session")
def _kgdbpatch_guests() -> Iterator[_Guests]:
    guests = _Guests(os.environ.get("PYTEST_XDIST_WORKER", "main"))
    try:
        yield guests
    finally:
        guests.shutdown()


@pytest.fixture
def kernel(request: pytest.FixtureRequest, _kgdbpatch_guests: _Guests) -> Iterator[Kernel]:
    """Give a running `Kernel` in its booted state; between tests it is paused."""
    marker = request.node.get_closest_marker("kernel")
    profile = marker.args[0] if marker is not None else request.config.getoption("--kernel-profile")
    guest = _kgdbpatch_guests.get(profile)
    yield guest
    if guest.alive:
        guest.pause()
