"""QMP, one command at a time: the socket serves a single client, so nobody stays connected."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from qemu.qmp import ConnectError, ExecInterruptedError, ExecuteError, QMPClient, StateError

from kgdbpatch.errors import CommandFailed, TargetLost, TargetTimeout

__all__ = ["greet", "qmp"]

_T = TypeVar("_T")


def qmp(socket: Path, command: str, arguments: Mapping[str, object], deadline: float) -> object:
    """Execute one command and return its answer.

    Raises `CommandFailed` with QEMU's words, `TargetLost` when nobody listens or QEMU ends
    meanwhile, `TargetTimeout` after ``deadline`` seconds.
    """
    return _run(_execute(socket, command, arguments), command, deadline)


def greet(socket: Path, deadline: float) -> None:
    """Wait until QEMU has come up and greets; errors as for `qmp`."""
    _run(_execute(socket, None, {}), "the greeting", deadline)


async def _execute(socket: Path, command: str | None, arguments: Mapping[str, object]) -> object:
    client = QMPClient()
    await client.connect(str(socket))
    try:
        return await client.execute(command, dict(arguments)) if command else None
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
