"""An event that overtakes QMP's greeting or its answer: QEMU is asked anew, not taken for lost."""

from __future__ import annotations

import json
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from kgdbpatch.errors import TargetLost
from kgdbpatch.vm.qmp import qmp

_GREETING = {
    "QMP": {"version": {"qemu": {"major": 10, "minor": 0, "micro": 0}, "package": ""}, "capabilities": []}
}
_EVENT = {"event": "RESUME", "timestamp": {"seconds": 1, "microseconds": 0}}


def _serve(listener: socket.socket, overtaken: int, greeting: bool) -> None:
    """Answer every command of each client; the first ``overtaken`` of them hear an event before.

    ``greeting``: before the greeting.
    """
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        with client, suppress(OSError):  # it may go at any time
            if greeting and overtaken > 0:
                _tell(client, _EVENT)
            _tell(client, _GREETING)
            while order := client.recv(1 << 16):  # one at a time: each waits for its answer
                if overtaken > 0 and not greeting:
                    _tell(client, _EVENT)
                known = {key: value for key, value in json.loads(order).items() if key == "id"}
                _tell(client, {"return": {"running": True}} | known)
        overtaken -= 1


def _tell(client: socket.socket, message: object) -> None:
    client.sendall(json.dumps(message).encode() + b"\r\n")


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="qmp-") as folder:  # a path short enough for sockets
        yield Path(folder) / "qmp.sock"


def _ask(place: Path, overtaken: int, greeting: bool = False) -> object:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen()
        threading.Thread(target=_serve, args=(listener, overtaken, greeting), daemon=True).start()
        try:
            return qmp(place, "query-status", {}, 20)
        finally:
            listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("greeting", [False, True])
@pytest.mark.parametrize("overtaken", [0, 1, 4])
def test_an_event_before_the_answer(place: Path, overtaken: int, greeting: bool) -> None:
    assert _ask(place, overtaken, greeting) == {"running": True}


def test_one_that_never_answers(place: Path) -> None:
    for greeting in (False, True):
        with pytest.raises(TargetLost, match="went away"):
            _ask(place.with_name(f"qmp-{greeting}.sock"), 1000, greeting)
