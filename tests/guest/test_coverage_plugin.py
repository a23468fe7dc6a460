"""The option --kernel-cov: what all tests of a run have executed, in files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kgdbpatch.coverage.run import load

pytestmark = pytest.mark.long

TESTS = """
import pytest

def test_beats(kernel):
    kernel.log.wait("selfcheck", deadline=60, since=kernel.log.position())

def test_counts(kernel):
    with kernel.patch("run_netisr", count=True):
        kernel.log.wait("statistics", deadline=60, since=kernel.log.position())

def test_that_takes_all_out(kernel):
    kernel.remove_all()
    assert kernel.verify().ok
"""


def test_all_tests_together(tmp_path: Path) -> None:
    (tmp_path / "test_three.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--kernel-cov", "cov"]
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=alone)
    assert "3 passed" in done.stdout, done.stdout
    run = load(tmp_path / "cov" / "darwin.cov")
    assert int(run.ran.sum()) > 500
    assert (tmp_path / "cov" / "darwin" / "index.html").exists()
    assert "end_of_record" in (tmp_path / "cov" / "darwin.info").read_text()
