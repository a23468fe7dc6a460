"""The guest's sources are not needed: every command works where only the built image is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kgdbpatch.guests import Recipe

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-c", "from kgdbpatch.cli import main; main()"]
OFFLINE = [
    ("functions",),
    ("analyze",),
    ("live", "run_netisr+0x18"),
]

pytestmark = [pytest.mark.long, pytest.mark.guest]
Run = Callable[..., list[Any]]


@pytest.fixture
def alone(tmp_path: Path) -> Run:
    """Run the program from a copy that has no ``images/``, with a cache that holds the kernel alone."""
    kernel = Recipe.find("darwin").build(print)
    shutil.copytree(ROOT / "kgdbpatch", tmp_path / "kgdbpatch", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "qemu", tmp_path / "qemu")
    entry = tmp_path / "cache" / "darwin-alone"
    entry.mkdir(parents=True)
    shutil.copy(kernel, entry)
    (tmp_path / "run").mkdir(mode=0o700)
    environment = os.environ | {
        "PYTHONPATH": str(tmp_path),
        "KGDBPATCH_CACHE": str(tmp_path / "cache"),
        "KGDBPATCH_RUNTIME": str(tmp_path / "run"),
    }

    def run(*words: object) -> list[Any]:
        command = [*PROGRAM, *map(str, words), "--json"]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, (words, done.stderr)
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


def test_every_command_works_on_the_image_alone(alone: Run, tmp_path: Path) -> None:
    (found,) = alone("image", "path", "darwin")
    image = Path(found["path"])
    assert image.is_relative_to(tmp_path)
    for command, *more in OFFLINE:
        assert alone(command, image, *more)

    (booted,) = alone("boot", "darwin", "--name", "alone")
    assert booted["kernel"] == str(image)
    try:
        assert [guest["name"] for guest in alone("ps")] == ["alone"]
        for command, *more in OFFLINE:
            assert alone(command, "alone", *more)
        (checked,) = alone("check", "alone", "run_netisr")
        assert checked["ok"]
        payload = tmp_path / "nothing.s"
        payload.write_text("nop\n")
        code = tmp_path / "nothing.c"
        code.write_text("int nothing(void) { return 0; }\n")
        ways = [
            ("ip_input", "--asm", payload),
            ("udp_input", "--c", code),
            ("run_netisr", "--call", "ipintr"),
        ]
        made = [alone("apply", "alone", *way)[0]["id"] for way in ways]
        assert [patch["id"] for patch in alone("list", "alone")] == made
        assert alone("verify", "alone")[0]["ok"]
        assert alone("log", "alone")
        alone("remove", "alone", made[0])
        while alone("list", "alone"):  # a thread may be in one of them for a while
            alone("remove", "alone", "--all")
    finally:
        alone("shutdown", "alone")
