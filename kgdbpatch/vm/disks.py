"""A guest's disks: overlays that take what the guest writes, so that the user's files stay as they are."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from kgdbpatch.errors import BadImage
from kgdbpatch.vm.launch import find_tool

__all__ = ["overlay"]


def overlay(file: Path, made: Path) -> Path:
    """Create the qcow2 file ``made`` over the disk image ``file``, of any format that QEMU knows.

    Raises `BadImage`, with qemu-img's words where it refuses.
    """
    file = file.absolute()
    if not file.exists():
        raise BadImage(file, "no such file")
    if file.is_dir():
        raise BadImage(file, "a directory, no disk image")
    kind = json.loads(_qemu_img(file, "info", "--output=json", str(file)))["format"]
    _qemu_img(file, "create", "-q", "-f", "qcow2", "-F", kind, "-b", str(file), str(made))
    return made


def _qemu_img(file: Path, *words: str) -> str:
    command = [find_tool("qemu-img", "qemu-utils"), *words]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        raise BadImage(file, " ".join(done.stderr.split()) or f"qemu-img ends with {done.returncode}")
    return done.stdout
