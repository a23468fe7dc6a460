"""What `scripts/bench` prints and refuses, without a guest."""

from __future__ import annotations

import json

import pytest

from bench.__main__ import main
from bench.cost import Costs
from bench.hit import Cost
from bench.patch import Ratio, report
from bench.report import print_costs, print_costs_json

PATCH = Cost("patch", 42, 41, 1, 41, 43)
BREAKPOINT = Cost("breakpoint", 0, None, None, 0, 0, stop_ms=2.0, stops=2, round_trips=15.9)
COSTS = Costs("darwin", "run_netisr", 300e6, (PATCH, BREAKPOINT))


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_costs(COSTS)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["patch", "42", "41", "1", "41..43", "-", "-", "-"]
    assert lines[3].split() == ["breakpoint", "0", "-", "-", "0", "-", "2.0", "ms", "15.9"]
    assert lines[-2].startswith("2 stops of together 2.0 ms: time for 600 thousand instructions")


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_costs_json(COSTS)
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["instructions"] == first["glue"] + first["payload"] == 42
    assert (second["glue"], second["stop_ms"]) == (None, 2.0)
    assert first["instructions_per_second"] == 300_000_000


def test_unknown_words_are_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["nonsense"])
    assert leaving.value.code == 2
    assert "nonsense" in capsys.readouterr().err


def test_a_missed_goal_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    met, missed = Ratio("one", "ms", 3.0, 2.0, "round trips", 3), Ratio("other", "s", 2.0, 1.0, "a second", 1)
    assert report("darwin", [met], as_json=False) == 0
    assert report("darwin", [met, missed], as_json=True) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["one", "3", "ms", "2", "(round", "trips)", "1.50", "3"]
    assert [json.loads(line)["met"] for line in lines[-2:]] == [True, False]
