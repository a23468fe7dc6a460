"""Sources with marks: ``@live r9 cr5``, ``@free r9``, ``@data`` and ``@code`` tell of the next word."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

from kgdbpatch.errors import Refused
from kgdbpatch.image import Image
from kgdbpatch.kernel import catalog, offline
from kgdbpatch.patch.site_checker import SiteChecker

from .code import link

__all__ = ["function", "wrong_marks"]

_MACRO = ".macro mark\n77777: .pushsection .marks\n .long 77777b\n .popsection\n .endm\n .text\n"


def function(name: str, code: str) -> str:
    """Return the source of a global function."""
    return f".globl {name}\n.type {name},@function\n{name}:\n {code}\n .size {name},.-{name}\n"


def wrong_marks(source: str, place: Path, *, stripped: bool = False) -> list[str]:
    """Link a marked source in the folder ``place``; return the marks that the analysis denies."""
    marks, lines = [], []
    for line in source.splitlines():
        marked = line.strip().startswith("@")
        marks += [line.strip()] if marked else []
        lines.append("mark" if marked else line)
    image = link(_MACRO + "\n".join(lines), place)
    sites, path = place / "marks", str(image.path)
    copied = ("-O", "binary", "-j", ".marks", "--set-section-flags", ".marks=alloc")
    subprocess.run(["powerpc-linux-gnu-objcopy", *copied, path, sites], check=True)
    subprocess.run(["powerpc-linux-gnu-objcopy", "-R", ".marks", path], check=True)
    if stripped:
        subprocess.run(["powerpc-linux-gnu-strip", "-s", path], check=True)
    image = catalog.open_image(path) if stripped else Image.load(path)
    site_checker, held = offline.site_checker(image), sites.read_bytes()
    addresses = struct.unpack(f">{len(held) // 4}I", held)
    assert marks
    told = zip(addresses, marks, strict=True)
    return [f"{image.symbolize(at)}: {mark}" for at, mark in told if not _holds(site_checker, at, mark)]


def _holds(site_checker: SiteChecker, address: int, mark: str) -> bool:
    kind, *registers = mark.split()
    try:
        free = set(site_checker.live(address).free)
        site_checker.site(address)
    except Refused:
        return kind == "@data"
    match kind:
        case "@live":
            return not free & set(registers)
        case "@free":
            return set(registers) <= free
    return kind == "@code"
