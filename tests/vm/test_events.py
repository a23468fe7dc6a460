"""The log of QEMU's events, read in pieces and as it grows."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgdbpatch.vm import events
from kgdbpatch.vm.events import EventLog

GREETING = b'{"QMP": {"version": {}, "capabilities": []}}'


def noted(kind: str, **data: object) -> bytes:
    event: dict[str, object] = {"timestamp": {"seconds": 1, "microseconds": 2}, "event": kind}
    return json.dumps({**event, "data": data} if data else event).encode()


LINES = [
    *(GREETING, b'{"return": {}}', b"", b'{"event": "STOP"', b'["RESUME"]'),
    *(noted("STOP"), noted("RESUME"), noted("RTC_CHANGE", offset=1), noted("JOB", id="STOP", was="RESET")),
    *(noted("RESET", guest=False, reason="host-qmp-system-reset"), noted("RESET", reason="STOP")),
    *(noted("SHUTDOWN", guest=True, reason="guest-shutdown"), noted("SHUTDOWN", reason="SHUTDOWN")),
]


def plain(log: bytes) -> tuple[bool | None, list[tuple[int, str]], str | None]:
    """Read a log line by line, each taken apart."""
    stopped, resets, ending, place = None, [], None, 0
    for line in log.split(b"\n")[:-1]:
        try:
            told = json.loads(line)
        except ValueError:
            told = None
        if isinstance(told, dict) and stopped is None and "QMP" in told:
            stopped = False
        if isinstance(told, dict) and "event" in told:
            reason = told.get("data", {}).get("reason", "").replace("-", " ")
            match told["event"]:
                case "STOP" | "RESUME":
                    stopped = told["event"] == "STOP"
                case "RESET":
                    resets.append((place, reason))
                case "SHUTDOWN":
                    ending = reason
        place += len(line) + 1
    return stopped, resets, ending


@given(st.lists(st.sampled_from(LINES), max_size=12), st.lists(st.integers(0, 600)), st.integers(1, 200))
def test_as_read_line_by_line(lines: list[bytes], cuts: list[int], piece: int) -> None:
    whole = b"".join(line + b"\n" for line in [GREETING, *lines])
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patched:
        patched.setattr(events, "PIECE", piece)
        log = EventLog(Path(directory))
        for end in [*sorted(cuts), len(whole)]:
            (Path(directory) / "events.out").write_bytes(whole[:end])
            seen = log.update()
            assert (seen.stopped, seen.resets, seen.ending) == plain(whole[:end])


def test_of_a_long_log_few_lines_are_taken_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stops = (noted("STOP") + b"\n" + noted("RESUME") + b"\n") * 20_000
    reset = noted("RESET", reason="host-qmp-system-reset") + b"\n"
    (tmp_path / "events.out").write_bytes(GREETING + b"\n" + stops + reset + noted("STOP") + b"\n")
    parsed: list[bytes] = []
    loads = json.loads

    def told(line: bytes) -> object:
        parsed.append(line)
        return loads(line)

    monkeypatch.setattr(json, "loads", told)
    seen = EventLog(tmp_path).update()
    assert (seen.stopped, len(seen.resets)) == (True, 1)
    assert len(parsed) < 50
