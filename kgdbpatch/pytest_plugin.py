"""Give tests the fixture ``kernel``: a booted guest, put back to its booted state for every test.

The guest is that of the test's marker ``@pytest.mark.kernel("linux")``, else of the option ``--guest``
(``darwin``): a recipe's name, or its FILE.toml. Each is booted once per session and, under pytest-xdist,
once per worker; a snapshot brings it back between tests, a new boot where a test has killed it.

A test during which the kernel panicked, hung, was reset or found a fault of its own fails, whatever
it asserted, and so does one that leaves a thread in a patch for ever, unless it is marked
``@pytest.mark.panics``. The report of a failed test tells how the guest is. The guests of a run that
was killed are ended by the next one.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import current_thread, main_thread

import pytest

from kgdbpatch.coverage.run import Run
from kgdbpatch.errors import BadImage, ComponentDamaged, KgdbPatchError, Misuse, TargetLost
from kgdbpatch.kernel import Kernel, postmortem
from kgdbpatch.kernel.health import Health
from kgdbpatch.vm import runtime
from kgdbpatch.vm.process import boot_id, namespace, start_time
from kgdbpatch.vm.qemu import Qemu

__all__ = ["kernel"]

_BOOTED = "booted"
_OWNER = "pytest"  # what the owner of a guest is called in its record


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--guest`` and ``--kernel-cov``."""
    group = parser.getgroup("kgdbpatch")
    group.addoption(
        "--guest",
        "--kernel-profile",
        dest="kgdbpatch_guest",
        default="darwin",
        metavar="RECIPE",
        help="guest that the fixture 'kernel' boots when a test has no marker: a recipe's name or FILE.toml "
        "(darwin)",
    )
    group.addoption(
        "--kernel-cov",
        dest="kgdbpatch_coverage",
        metavar="DIR",
        help="take the coverage of the guests' kernels; write there what all tests have run",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and have a run that is told to end (SIGTERM) end its guests, as Ctrl-C does."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL and current_thread() is main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    config.addinivalue_line("markers", "kernel(recipe): the guest that the fixture 'kernel' boots")
    config.addinivalue_line("markers", "panics: the test may kill the kernel")


class _Guests:
    """The guests of one session, one per recipe."""

    def __init__(self, worker: str, coverage: Path | None = None) -> None:
        self._worker, self._booted = worker, dict[str, Kernel]()
        self._coverage, self._runs = coverage, dict[str, Run]()

    def get(self, recipe: str) -> Kernel:
        guest = self._booted.get(recipe)
        if guest is not None and not self._restored(guest):
            guest.shutdown()
            guest = None
        if guest is None:
            owner = {"pid": os.getpid(), "started": start_time(os.getpid())}
            name = f"pytest-{os.getpid()}-{self._worker}-{Path(recipe).stem}"
            guest = Kernel.boot(recipe, name, metadata={_OWNER: owner})
            self._booted[recipe] = guest
            if self._coverage is not None:
                guest.coverage.start()
            with suppress(Misuse):  # no snapshots of its CPU: it is booted anew for each test
                guest.snapshot(_BOOTED)
        guest.log.begin(guest.log.position())
        return guest

    @staticmethod
    def _restored(guest: Kernel) -> bool:
        if not guest.alive or guest.qemu.process.suspended():
            return False
        try:
            guest.restore(_BOOTED)
        except KgdbPatchError:
            return False
        return True

    def collect(self, guest: Kernel) -> None:
        """Add what was run since the guest was put back; a test may have taken that out."""
        recipe = next(name for name, one in self._booted.items() if one is guest)
        with suppress(KgdbPatchError):
            run = guest.coverage.run()
            known = self._runs.get(recipe)
            self._runs[recipe] = run if known is None else known.merged(run)

    def report(self) -> None:
        """Write what was run in all tests."""
        from kgdbpatch.coverage.run import save
        from kgdbpatch.kernel.coverage_files import CoverageFiles

        for recipe, run in self._runs.items():
            assert self._coverage is not None
            self._coverage.mkdir(parents=True, exist_ok=True)
            beside = "" if self._worker == "main" else f"-{self._worker}"
            base = self._coverage / f"{Path(recipe).stem}{beside}"
            files = CoverageFiles(self._booted[recipe], run)
            save(base.with_suffix(".cov"), run)
            files.write_html(base)
            with suppress(BadImage):
                files.write_lcov(base.with_suffix(".info"))

    def shutdown(self) -> None:
        for guest in self._booted.values():
            guest.shutdown()


def _end_orphans() -> None:
    """End the guests that killed runs have left, and forget those that have died."""
    for record in [*runtime.guests(), *runtime.ended()]:
        owner = record.metadata.get(_OWNER)
        here = record.namespace == namespace() and record.host_boot == boot_id()
        if isinstance(owner, dict) and here and start_time(int(owner["pid"])) != owner["started"]:
            Qemu(record, record.process()).shutdown()


@pytest.fixture(scope="session")
def _kgdbpatch_guests(request: pytest.FixtureRequest) -> Iterator[_Guests]:
    _end_orphans()
    coverage = request.config.getoption("kgdbpatch_coverage")
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    guests = _Guests(worker, None if coverage is None else Path(coverage))
    try:
        yield guests
        guests.report()
    finally:
        guests.shutdown()


@pytest.fixture
def kernel(request: pytest.FixtureRequest, _kgdbpatch_guests: _Guests) -> Iterator[Kernel]:
    """Give a running `Kernel` in its booted state; between tests it is paused."""
    marker = request.node.get_closest_marker("kernel")
    named = marker.args[0] if marker is not None and marker.args else None
    guest = _kgdbpatch_guests.get(named or request.config.getoption("kgdbpatch_guest"))
    yield guest
    if request.config.getoption("kgdbpatch_coverage") is not None and guest.alive:
        _kgdbpatch_guests.collect(guest)
    if guest.alive and not guest.qemu.process.suspended():
        with suppress(TargetLost):  # it is put back, or booted anew, for the next test
            guest.pause()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that left a dead kernel, and tell of the guest in the report of any that failed."""
    report = yield
    guest = getattr(item, "funcargs", {}).get("kernel")
    if report.when != "call" or not isinstance(guest, Kernel):
        return report
    found = _examined(guest)
    fault = _fault(guest, found)
    if fault and report.passed and item.get_closest_marker("panics") is None:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: guest '{guest.name}' {fault}"
    if report.failed:
        report.sections += postmortem.sections(guest, found)
    return report


def _examined(guest: Kernel) -> Health:
    try:
        try:
            patched, damaged = bool(guest.records()), ""
        except ComponentDamaged as error:
            patched, damaged = True, str(error)
        found = guest.proof_of_life() if patched else guest.health
        if damaged and not found.dead:
            return replace(found, endless=damaged)
        if not found.dead and not guest.qemu.process.suspended():
            guest.qemu.qmp("query-status")  # a process that was just killed may still seem to run
        if patched and not damaged and found.state == "running":
            found = replace(found, endless=guest.endless())
        return found
    except KgdbPatchError as error:
        return Health("ended", str(error))


def _fault(guest: Kernel, found: Health) -> str:
    """Return what a test has done to the guest that no test should."""
    if found.state == "paused" and (guest.qemu.process.suspended() or not guest.paused_here):
        return f"was left paused: {found.reason}"
    if found.dead:
        return found.words
    if found.oopses:
        return f"found a fault of its own: {found.oopses[0]}"
    return f"runs on, but {found.endless}" if found.endless else ""
