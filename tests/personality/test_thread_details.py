"""A Linux thread's number, process and state, found by what the structures hold."""

from __future__ import annotations

from kgdbpatch.personality.base import Thread, ThreadDetail, Window
from kgdbpatch.personality.linux.thread_details import thread_details

SIZE = 0x40
STACK, PID = 0x10, 0x24  # offsets; the state stands before the stack


def memory(rows: list[tuple[int, int, int]], behind: int = 4) -> tuple[bytes, list[Thread]]:
    """Return structures of threads: state, number, process of each."""
    data = b""
    for state, number, process in rows:
        words = [0] * (SIZE // 4)
        words[(STACK - behind) // 4] = state
        words[STACK // 4] = 0xC000_0000 + 0x2000 * number
        words[PID // 4 : PID // 4 + 2] = [number, process]
        words[-1] = number % 3  # what looks alike
        data += b"".join(word.to_bytes(4, "big") for word in words)
    return data, [Thread("", Window(0, 0), 0, SIZE * index) for index in range(len(rows))]


def details(rows: list[tuple[int, int, int]], behind: int = 4) -> list[ThreadDetail]:
    data, threads = memory(rows, behind)
    return [*thread_details(lambda at, size: data[at : at + size], threads, SIZE, STACK)]


ROWS = [(0, 0, 0), (1, 1, 1), (2, 2, 2), (0x402, 7, 7), (0, 90, 90), (1, 91, 90), (0x1402, 92, 92)]


def test_numbers_and_states() -> None:
    for behind in (4, 8):
        found = details(ROWS, behind)
        assert [one.id for one in found] == [0, 1, 2, 7, 90, 91, 92]
        assert [one.pid for one in found] == [0, 1, 2, 7, 90, 90, 92]
        states = ["runnable", "sleeping", "uninterruptible", "idle", "runnable", "sleeping", "idle"]
        assert [one.state for one in found] == states


def test_what_is_not_found_is_not_told() -> None:
    assert details([(0, 5, 5), (1, 6, 6), (1, 7, 7), (1, 8, 8)]) == [
        ThreadDetail(None, None, state) for state in ("runnable", "sleeping", "sleeping", "sleeping")
    ]
    assert {one.state for one in details([(0xC000_0000, row[1], row[2]) for row in ROWS])} == {""}
    assert thread_details(lambda at, size: None, memory(ROWS)[1], SIZE, STACK)[0] == ThreadDetail()
