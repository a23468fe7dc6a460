"""QMP, one command at a time: the socket serves a single client, so nobody stays connected."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from qemu.qmp import ConnectError, ExecInterruptedError, ExecuteError, QMPClient, StateError
from qemu.qmp.qmp_client import GreetingError, NegotiationError

from kgdbpatch.errors import CommandFailed, TargetLost, TargetTimeout

__all__ = ["connected", "greet", "qmp", "qmp_again", "synchronously"]

_T = TypeVar("_T")
_TRIES = 5


def qmp(socket: Path, command: str, arguments: Mapping[str, object], deadline: float) -> object:
    """Execute one command; raise `CommandFailed` with QEMU's words, `TargetLost` or `TargetTimeout`."""
    return qmp_again(socket, command, arguments, 1, deadline)[0]


def qmp_again(
    socket: Path, command: str, arguments: Mapping[str, object], times: int, deadline: float
) -> list[object]:
    """Execute one command several times, one after the other; return the answers. Errors as for `qmp`."""

    async def ask() -> list[object]:
        async with connected(socket) as client:
            return [await client.execute(command, dict(arguments)) for _ in range(times)]

    return synchronously(ask(), command, deadline)


def greet(socket: Path, deadline: float) -> None:
    """Wait until QEMU has come up and greets; errors as for `qmp`."""
    qmp_again(socket, "the greeting", {}, 0, deadline)  # connecting is all


@asynccontextmanager
async def connected(socket: Path) -> AsyncIterator[QMPClient]:
    """Yield a client that is connected to QEMU's monitor.

    Negotiation fails where an event comes before QEMU's greeting or its answer; nothing was asked yet, so it
    is begun anew.
    """
    for left in reversed(range(_TRIES)):
        client = QMPClient()
        try:
            await client.connect(str(socket))
            break
        except ConnectError as error:
            if not left or not isinstance(error.exc, GreetingError | NegotiationError):
                raise
    try:
        yield client
    finally:
        await client.disconnect()


def synchronously(work: Coroutine[object, object, _T], what: str, deadline: float) -> _T:
    """Return what ``work`` with a client returns; ``what`` it is, errors tell, which are as for `qmp`."""
    try:
        return _run(asyncio.wait_for(work, deadline))
    except ExecuteError as error:
        raise CommandFailed(f"QEMU refuses {what}: {error}") from error
    except TimeoutError as error:
        raise TargetTimeout(f"QEMU did not answer {what} within {deadline:g} s") from error
    except (ConnectError, ExecInterruptedError, StateError, OSError, EOFError) as error:
        raise TargetLost(f"QEMU went away before it answered {what} ({error})") from error


def _run(work: Coroutine[object, object, _T]) -> _T:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:  # the caller is asynchronous itself
        return pool.submit(asyncio.run, work).result()
