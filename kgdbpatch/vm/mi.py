"""GDB/MI: commands with tokens, and what GDB says, parsed by pygdbmi."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import IO, Any

from kgdbpatch.errors import Misuse

__all__ = ["Dialogue", "Record", "Result", "quoted"]


def quoted(text: str) -> str:
    """Return ``text`` as a C string of MI's; raise `Misuse` for what is no one line of text."""
    if not text.isprintable():
        raise Misuse(f"not one line of text: {text!r}")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@dataclass(frozen=True, slots=True)
class Record:
    """An asynchronous record: ``stopped``, ``thread-created``, ``thread-group-exited`` and so on."""

    name: str
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Result:
    """GDB's answer to a command; ``error`` is its complaint."""

    payload: Mapping[str, Any]
    error: str | None = None


class Dialogue:
    """What was asked through GDB's standard input and what came through its standard output."""

    def __init__(self, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        from pygdbmi.IoManager import IoManager  # takes its time, in which GDB starts

        self._io = IoManager(stdin, stdout, None)
        self._token = 0
        self._awaited: dict[int, Result | None] = {}
        self.told: list[Record] = []  # what GDB told of its own accord

    def send(self, commands: Iterable[str], deadline: float) -> list[int]:
        """Write commands in one go; return the tokens that their results will have."""
        tokens, lines = [], []
        for command in commands:
            self._token += 1
            tokens.append(self._token)
            lines.append(f"{self._token}{command}")
        self._awaited.update(dict.fromkeys(tokens))
        self._io.write(lines, deadline, read_response=False)
        return tokens

    def read(self) -> None:
        """Take in what GDB has said so far, without waiting."""
        for record in self._io.get_gdb_response(0, raise_error_on_timeout=False):
            payload = record["payload"] if isinstance(record["payload"], dict) else {}
            if record["type"] == "notify":
                self.told.append(Record(record["message"], payload))
            elif record["type"] == "result" and record["token"] in self._awaited:
                error = str(payload.get("msg", "error")) if record["message"] == "error" else None
                self._awaited[record["token"]] = Result(payload, error)

    def results(self, tokens: Iterable[int]) -> list[Result] | None:
        """Return the results with these tokens, and forget them; None while one is still to come."""
        chosen = [*tokens]
        found = [result for token in chosen if (result := self._awaited[token]) is not None]
        if len(found) < len(chosen):
            return None
        for token in chosen:
            del self._awaited[token]
        return found
