"""A guest that lives wholly outside the package: a recipe, a bare-metal kernel, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kgdbpatch.errors import Refused
from kgdbpatch.kernel import Kernel

pytestmark = [pytest.mark.long, pytest.mark.guest]
EXAMPLE = Path(__file__).parents[2] / "examples" / "own_guest"
PROGRAM = [sys.executable, "-c", "from kgdbpatch.cli import main; main()"]
TEST = """
def test_it_is_patched_and_put_back(kernel):
    assert kernel.patches == []
    with kernel.patch("step", count=True) as patch:
        kernel.log.wait(r"step \\d+", since=kernel.log.position())
        assert patch.hits > 1000
    assert kernel.verify().ok


def test_the_next_one_finds_it_as_it_was(kernel):
    assert kernel.patches == []
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Return the recipe of a copy that is nowhere near the package."""
    shutil.copytree(EXAMPLE, tmp_path / "own_guest", ignore=shutil.ignore_patterns("build"))
    return tmp_path / "own_guest" / "own.toml"


def test_by_its_file(own: Path) -> None:
    with Kernel.boot(own, "own-file") as kernel:
        assert kernel.profile == "own"
        assert kernel.log.wait("step").source == "own"
        counted = kernel.patch("step", count=True)
        called = kernel.patch("step+0x8", asm="li 11, 7")
        kernel.log.wait("step", since=kernel.log.position())
        assert [patch.id for patch in kernel.patches] == [counted.id, called.id]
        assert kernel.patches[0].hits
        with pytest.raises(Refused) as refused:
            kernel.patch("common", count=True)
        assert refused.value.rule == "untranslated"
        while kernel.remove_all():
            kernel.log.wait("step", since=kernel.log.position())
        assert kernel.patches == []
        verified = kernel.verify()
        assert (verified.ok, verified.patched) == (True, 0)


def test_a_running_guest_needs_no_recipe_any_more(own: Path) -> None:
    with Kernel.boot(own, "own-gone") as kernel:
        own.unlink()
        with Kernel.attach("own-gone") as again:
            assert again.patch("step", count=True).id == 1
        assert kernel.health.state == "running"


def test_its_faults_are_told(own: Path) -> None:
    with Kernel.boot(own, "own-fault") as kernel:
        kernel.patch("step", asm="lis 11, 0x7000\n stw 11, 0(11)")
        kernel.qemu.console.wait("own: panic")
        health = kernel.health
        assert (health.state, "own: panic: exception at 0x" in health.line) == ("panicked", True)


def test_by_the_option_of_pytest(own: Path, tmp_path: Path) -> None:
    (tmp_path / "test_own.py").write_text(TEST)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--guest={own}",
        "test_own.py",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "2 passed" in done.stdout, done.stdout


def test_by_an_entry_point(own: Path, tmp_path: Path) -> None:
    (own.parent / "__init__.py").write_text(
        "from pathlib import Path\n\n\ndef recipe():\n    return Path(__file__).with_name('own.toml')\n"
    )
    known = tmp_path / "own_guest-1.dist-info"
    known.mkdir()
    (known / "METADATA").write_text("Metadata-Version: 2.1\nName: own-guest\nVersion: 1\n")
    (known / "entry_points.txt").write_text("[kgdbpatch.recipes]\nmine = own_guest:recipe\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])

    def run(*words: str) -> list[dict[str, object]]:
        done = subprocess.run(
            [*PROGRAM, *words, "--json"],
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    (booted,) = run("boot", "mine", "--name", "own-entry")
    try:
        assert booted["kernel"] == str(own.parent / "build" / "own.elf")
        (made,) = run("apply", "own-entry", "step", "--count")
        assert [row["id"] for row in run("list", "own-entry")] == [made["id"]]
        run("remove", "own-entry", "--all")
        assert run("verify", "own-entry")[0]["ok"]
    finally:
        run("shutdown", "own-entry")
