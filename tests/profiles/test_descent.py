"""The way down is the one that most stacks took."""

from __future__ import annotations

from kgdbpatch.profiles.descent import (
    Moment,
    Sample,
    Step,
    callees,
    descend,
    hottest,
    under,
    way_to,
    while_waiting,
)


def ran(*path: int, thread: int = 1) -> Sample:
    return Sample(thread, running=True, on_cpu=True, path=path)


def waited(*path: int, thread: int = 1) -> Sample:
    return Sample(thread, running=False, on_cpu=False, path=path)


def test_down_to_the_function_that_mostly_is_on_top() -> None:
    samples = [ran(1, 2, 3), ran(1, 2, 3), ran(1, 2), ran(1, 4), waited(1, 2, 3)]
    assert descend(samples) == [Step(1, 5, 1), Step(2, 4, 1), Step(3, 3, 1)]
    assert descend([ran(1, 2), ran(1, 2), ran(1, 2, 3)]) == [Step(1, 3, 0), Step(2, 3, 0)]
    assert descend([]) == []


def test_much_of_little_is_less_than_one_function_alone() -> None:
    """Of the ways in, the first has more stacks, but nothing on it has as many on top."""
    samples = [*(ran(1, number) for number in range(10, 15)), *(ran(2, 3) for _ in range(4))]
    assert descend(samples)[0].function == 1
    assert hottest(samples) == [Step(2, 4, 0), Step(3, 4, 0)]
    assert hottest([]) == []


def test_from_a_functions_outermost_call_on() -> None:
    moments = [Moment([ran(9, 5, 6, 5), ran(1, 2)]), Moment([waited(5, 7)])]
    assert [one.path for one in under(moments, 5)] == [(5, 6, 5), (5, 7)]


def test_what_another_thread_does_while_a_call_waits() -> None:
    moments = [
        Moment([waited(5, 7), ran(8, 9, thread=2)]),
        Moment([ran(5, 7), ran(8, thread=2)]),
        Moment([waited(5, 7, thread=3), ran(8, thread=2)]),
    ]
    assert [one.path for one in while_waiting(moments, 5, 1, 2)] == [(8, 9)]


def test_what_is_called_and_how_it_is_reached() -> None:
    samples = [ran(1, 2, 3), ran(1, 2, 3), ran(1, 4, 3), ran(1, 2)]
    assert callees(samples, 1, 8) == [2, 4]
    assert callees(samples, 1, 1) == [2]
    assert callees(samples, 3, 8) == []
    assert way_to(samples, 3) == [Step(1, 4, 0), Step(2, 3, 0), Step(3, 3, 0)]
    assert way_to(samples, 9) == []
