"""Lines of source code by address, as GDB reads them from a file with debug information."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from kgdbpatch.vm.launch import find_tool
from kgdbpatch.vm.mi import quoted

__all__ = ["source_lines"]

_DEADLINE = 120.0  # seconds for the debug information of a large kernel
_ASK = (
    "python import json; [print(json.dumps([at, found.symtab.filename, found.line])) "
    "for at in {addresses} for found in [gdb.find_pc_line(at)] if found.symtab]"
)


def source_lines(symbols: Path, addresses: Sequence[int]) -> dict[int, tuple[str, int]]:
    """Return file and line of some addresses, as far as ``symbols`` tells; nothing where it is unusable."""
    if not addresses:
        return {}
    orders = ("set confirm off", f"symbol-file {quoted(str(symbols))}", _ASK.format(addresses=[*addresses]))
    try:
        done = subprocess.run(
            [
                *(find_tool("gdb-multiarch", "gdb-multiarch"), "-nx", "-q", "-batch"),
                *(word for order in orders for word in ("-ex", order)),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_DEADLINE,
            env={**os.environ, "LC_ALL": "C", "DEBUGINFOD_URLS": ""},
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    rows = (json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"["))
    return {at: (file, line) for at, file, line in rows if file and line}
