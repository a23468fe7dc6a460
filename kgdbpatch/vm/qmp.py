"""QMP, one command at a time: the socket serves a single client, so nobody stays connected."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from qemu.qmp import (
    ConnectError,
    EventListener,
    ExecInterruptedError,
    ExecuteError,
    Message,
    QMPClient,
    StateError,
)

from kgdbpatch.errors import CommandFailed, TargetLost, TargetTimeout

__all__ = ["greet", "qmp", "qmp_again", "stops_during"]

_T = TypeVar("_T")


def qmp(socket: Path, command: str, arguments: Mapping[str, object], deadline: float) -> object:
    """Execute one command and return its answer.

    Raises `CommandFailed` with QEMU's words, `TargetLost` when nobody listens or QEMU ends
    meanwhile, `TargetTimeout` after ``deadline`` seconds.
    """
    return _run(_execute(socket, command, arguments), command, deadline)


def qmp_again(
    socket: Path, command: str, arguments: Mapping[str, object], times: int, deadline: float
) -> list[object]:
    """Execute one command several times, one after the other; return the answers. Errors as for `qmp`."""
    return _run(_execute_again(socket, command, arguments, times), command, deadline)


def greet(socket: Path, deadline: float) -> None:
    """Wait until QEMU has come up and greets; errors as for `qmp`."""
    _run(_execute(socket, None, {}), "the greeting", deadline)


def stops_during(socket: Path, work: Callable[[], object], deadline: float) -> list[float]:
    """Do ``work`` and return how long (seconds) the guest stood still each time it was stopped.

    The times are those of QEMU's own events. ``work`` runs in a thread and cannot use QMP.
    Errors as for `qmp`, and what ``work`` raises.
    """
    return _run(_stops_during(socket, work), "events", deadline)


async def _stops_during(socket: Path, work: Callable[[], object]) -> list[float]:
    client = QMPClient()
    await client.connect(str(socket))
    try:
        with client.listener(("STOP", "RESUME")) as listener:
            await asyncio.to_thread(work)
            await client.execute("query-status")  # its answer comes after all earlier events
            return _pauses(listener)
    finally:
        await client.disconnect()


def _pauses(listener: EventListener) -> list[float]:
    found, since = [], None
    for event in listener.clear():
        now = _seconds(event)
        if event["event"] == "STOP":
            since = now
        elif since is not None:
            found.append(now - since)
            since = None
    return found


def _seconds(event: Message) -> float:
    stamp = event["timestamp"]
    assert isinstance(stamp, dict)
    return float(stamp["seconds"]) + float(stamp["microseconds"]) / 1e6


async def _execute(socket: Path, command: str | None, arguments: Mapping[str, object]) -> object:
    client = QMPClient()
    await client.connect(str(socket))
    try:
        return await client.execute(command, dict(arguments)) if command else None
    finally:
        await client.disconnect()


async def _execute_again(
    socket: Path, command: str, arguments: Mapping[str, object], times: int
) -> list[object]:
    client = QMPClient()
    await client.connect(str(socket))
    try:
        return [await client.execute(command, dict(arguments)) for _ in range(times)]
    finally:
        await client.disconnect()


def _run(work: Coroutine[object, object, _T], what: str, deadline: float) -> _T:
    try:
        return _synchronously(asyncio.wait_for(work, deadline))
    except ExecuteError as error:
        raise CommandFailed(f"QEMU refuses {what}: {error}") from error
    except TimeoutError as error:
        raise TargetTimeout(f"QEMU did not answer {what} within {deadline:g} s") from error
    except (ConnectError, ExecInterruptedError, StateError, OSError, EOFError) as error:
        raise TargetLost(f"QEMU went away before it answered {what} ({error})") from error


def _synchronously(work: Coroutine[object, object, _T]) -> _T:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:  # the caller is asynchronous itself
        return pool.submit(asyncio.run, work).result()
