"""What an updated function costs is counted: one branch more than in a kernel built with the change."""

from __future__ import annotations

import difflib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.hit import ICOUNT
from kgdbpatch.guests.darwin_build import build_tree
from kgdbpatch.kernel import Kernel
from kgdbpatch.updates.archive import write_update
from kgdbpatch.updates.build import build_update

pytestmark = pytest.mark.long

FILE = "net/mbuf.c"
OLD = "    m->length = 0;\n    return m;\n"
NEW = """    m->length = 0;
    for (unsigned i = 0; i < sizeof m->buffer / 64; i++)
        m->buffer[64 * i] = 0;
    return m;
"""
CALLS = 8


def least(kernel: Kernel) -> int:
    """Return how many instructions the shortest of some calls takes."""
    return min(len(kernel.trace_call("m_get")) for _ in range(CALLS))


def booted(name: str, kernel: Path | None = None) -> Kernel:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    return Kernel.boot("darwin", f"pytest-{os.getpid()}-{worker}-{name}", icount=ICOUNT, kernel=kernel)


def test_an_updated_function_costs_one_branch_more_than_one_that_was_built_in(tmp_path: Path) -> None:
    tree = build_tree(tmp_path / "tree", lambda what: None)
    before = (tree / FILE).read_text()
    after = before.replace(OLD, NEW, 1)
    lines = (text.splitlines(keepends=True) for text in (before, after))
    patch = tmp_path / "cleared.patch"
    patch.write_text("".join(difflib.unified_diff(*lines, f"a/{FILE}", f"b/{FILE}")))  # type: ignore[call-arg, arg-type]
    update = tmp_path / "cleared.kup"
    write_update(build_update(patch, tree, lambda what: None), update)
    changed = tmp_path / "images/darwin"
    shutil.copytree(tree.parent / "tree", changed)
    for beside in ("macho.py", "macho_object.py"):
        shutil.copy(Path("images") / beside, changed.parent)
    (changed / FILE).write_text(after)
    made = tmp_path / "made"
    subprocess.run([sys.executable, changed / "build.py", made], check=True)
    with booted("built", made / "mach_kernel") as kernel:
        built = least(kernel)
    with booted("updated") as kernel:
        plain = least(kernel)
        kernel.updates.apply(update, wait=60)
        assert next(iter(kernel.patches)).entry == "branch"
        updated = least(kernel)
    assert plain < built
    assert updated == built + 1
