"""The commands of coverage, on a running guest."""

from __future__ import annotations

from pathlib import Path

import pytest

from kgdbpatch.kernel import Kernel

from .conftest import Cli

pytestmark = pytest.mark.guest


def test_from_start_to_stop(kernel: Kernel, guest_cli: Cli, tmp_path: Path) -> None:
    name = kernel.name
    failed = guest_cli("coverage", "report", name)
    assert (failed.code, failed.out) == (2, "")
    assert f"no coverage is taken of guest '{name}'" in failed.err
    assert guest_cli("coverage", "start", name, "nothing_like_*").code == 2

    started = guest_cli("coverage", "start", name, "work_*", "run_netisr", "--json")
    assert started.code == 0, started.err
    assert started.json["ran"] == 0
    assert started.json["watched"] > 50
    assert {row["rule"] for row in started.json["not_watched"]} >= {"not chosen"}
    assert guest_cli("coverage", "start", name).code == 2
    (row,) = guest_cli("list", name, "--json").json_lines
    assert row["coverage"].endswith(f"of {started.json['watched']} blocks run")
    assert "takes the coverage" in guest_cli("list", name).out

    kernel.log.wait("selfcheck", deadline=60, since=kernel.log.position())
    saved = tmp_path / "before.cov"
    report = guest_cli("coverage", "report", name, "--save", saved, "--json").json
    assert report["ran"] > 10
    rows = guest_cli("coverage", "report", name, "--by", "function", "--json").json_lines
    assert {row["state"] for row in rows} == {"run", "not run", "not watched"} or report["ran"] > 10
    assert any(row["function"] == "_run_netisr" and row["state"] != "not watched" for row in rows)
    lines = guest_cli("coverage", "report", name, "--by", "line", "--json").json_lines
    assert any(row["file"].endswith("netisr.c") or row["state"] == "run" for row in lines)
    files = guest_cli("coverage", "report", name, "--by", "file")
    assert files.out.startswith("FILE")

    info, pages = tmp_path / "all.info", tmp_path / "pages"
    report_to = ("coverage", "report", name, "--lcov", info, "--html", pages)
    written = guest_cli(*report_to, "--source", "images/darwin")
    assert written.code == 0, written.err
    assert info.read_text().count("end_of_record") > 3
    assert (pages / "index.html").exists()
    assert len([*pages.glob("file*.html")]) > 3

    reset = guest_cli("coverage", "reset", name, "--json")
    assert reset.json["ran"] < report["ran"]
    changed = guest_cli("coverage", "report", name, "--against", saved, "--json")
    assert changed.code == 0
    assert guest_cli("coverage", "report", name, "--against", info).code == 5
    assert guest_cli("coverage", "report", name, "--by", "colour").code == 2
    assert guest_cli("coverage", "report", name, "--save", tmp_path / "no" / "where").code == 5

    stopped = guest_cli("coverage", "stop", name)
    assert stopped.code == 0
    assert guest_cli("list", name, "--json").out == ""
    assert guest_cli("verify", name).code == 0
    assert guest_cli("coverage", "stop", name).code == 2
