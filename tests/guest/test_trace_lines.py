"""Lines of source as probes."""

from __future__ import annotations

import json

import pytest

from kgdbpatch.cli.main import run
from kgdbpatch.errors import Misuse
from kgdbpatch.image.line_table import LineTable
from kgdbpatch.kernel import Kernel
from kgdbpatch.kernel.tracing import Trace

from .test_trace import values
from .work import beat, empty

BUSY = [
    pytest.param("strlen", marks=pytest.mark.kernel("darwin"), id="darwin"),
    pytest.param("udp_sendmsg", marks=[pytest.mark.kernel("linux"), pytest.mark.linux], id="linux"),
]


@pytest.mark.parametrize("busy", BUSY)
def test_a_line_is_a_probe(kernel: Kernel, busy: str, capfd: pytest.CaptureFixture[str]) -> None:
    site = kernel.resolve(busy)
    table = LineTable.of(kernel.image)
    found = table.at(site)
    assert found is not None
    file = found[0]
    line = next(one for one, places in table.lines(file).items() if places == [site])
    with Trace(kernel, f"{file}:{line} {{ @line[func] = count() }} {busy} {{ @entry = count() }}") as trace:
        rows = []
        for _ in range(2):
            beat(kernel)
            kernel.pause()
            rows.append(trace.maps())
            kernel.resume()
    name = kernel.image.function_at(site)
    assert name is not None
    lines, entries = (
        [values(one, label).get(key, 0) for one in rows]
        for label, key in (("@line", (name.name,)), ("@entry", ()))
    )
    assert entries[1] > entries[0]
    assert abs(lines[1] - lines[0] - (entries[1] - entries[0])) <= 1
    assert run(["trace", kernel.name, "--list", f"{file.rpartition('/')[2]}:{line}", "--json"]) == 0
    listed = [json.loads(row) for row in capfd.readouterr().out.splitlines()]
    assert {"file": file, "line": line, "address": site, "symbol": name.name} in listed
    assert run(["trace", kernel.name, "--list", f"{file}:*"]) == 0
    assert f"{file}:{line}  " in capfd.readouterr().out
    with pytest.raises(Misuse, match="has no code; the next one that has is"):
        Trace(kernel, f"{file}:1 {{ count() }}")
    with pytest.raises(Misuse, match="has no code; the last one that has is"):
        Trace(kernel, f"{file}:999999 {{ count() }}")
    with pytest.raises(Misuse, match="what returns is a function"):
        Trace(kernel, f"{file}:{line}:return {{ count() }}")
    with pytest.raises(Misuse, match="no code of this kernel comes from a file"):
        Trace(kernel, f"x{file}:{line} {{ count() }}")
    empty(kernel)


@pytest.mark.linux
@pytest.mark.kernel("linux")
def test_files_that_are_called_alike(kernel: Kernel) -> None:
    with pytest.raises(Misuse, match=r"may be arch/powerpc/mm/mem.c or drivers/char/mem.c"):
        Trace(kernel, "mem.c:100 { count() }")
    line = next(iter(LineTable.of(kernel.image).lines("drivers/char/mem.c")))
    trace = Trace(kernel, f"char/mem.c:{line} {{ count() }}")
    assert trace.program.probes[0].specs[0].target == f"char/mem.c:{line}"
