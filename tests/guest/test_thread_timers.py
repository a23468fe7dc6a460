"""Functions are timed by what their threads have run: judged by work of known length between sleeps."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import pytest

from kgdbpatch.errors import Refused
from kgdbpatch.kernel import Kernel, Patch
from kgdbpatch.kernel.thread_timers import ThreadTimers
from kgdbpatch.profiles.rows import TimerRow

from .work import beat

pytestmark = pytest.mark.long

ICOUNT = "shift=0,sleep=off"  # a nanosecond each: little of a second goes to what the clock's interrupts do
MINE = 0x4000_0000  # an argument that nobody else gives
THREADS, ROUNDS = 3, 12
INNER, OWN = 1_000_000, 1_500_000  # instructions

BURN = """
static inline void burn(unsigned long times)
{
    __asm__ volatile("mtctr %0\\n0:\\tbdnz 0b" : : "r"(times) : "ctr");
}
"""


@dataclass(frozen=True)
class Subject:
    """Two functions of a kernel that nobody calls with an argument of ours, and how threads are made."""

    outer: str
    inner: str
    threads: str  # C: `begin(number)` starts a thread in `run`, `nap()` sleeps, `give()` yields


SUBJECTS = {
    "darwin": Subject(
        "kmod_lookup",
        "isspace",
        "extern void *kernel_thread(const char *, int, void (*)(void *), void *);"
        "extern void delay_ticks(int);"
        "static void run(void *); static void nap(void) { delay_ticks(2); } static void give(void) {}"
        'static void begin(long number) { kernel_thread("timed", 31, run, (void *)number); }',
    ),
    "linux": Subject(
        "int_sqrt",
        "gcd",
        "struct task_struct; extern int wake_up_process(struct task_struct *); extern void msleep(unsigned);"
        "extern struct task_struct *kthread_create_on_node(int (*)(void *), void *, int, const char *, ...);"
        "extern void yield(void); static void give(void) { yield(); }"
        "static int run(void *); static void nap(void) { msleep(20); }"
        'static void begin(long n) { wake_up_process(kthread_create_on_node(run, (void *)n, -1, "timed")); }',
    ),
}
OUTER = """#include <kgdbpatch.h>
{threads}{burn}
extern long {inner}(long);
volatile long done, go;
static {returns} run(void *number)
{{
    extern long {outer}(long);
    while (!go)
        nap();
    {outer}({mine} + (long)number);
    __atomic_fetch_add(&done, 1, 0);
    {end}
}}
long replaced(long what)
{{
    long round, part;
    if (what < {mine} || what > {mine} + {count})
        return KGP_ORIGINAL(long, long)(what);
    if (what == {mine} + {count}) {{
        for (round = 0; round < {count}; round++)
            begin(round);
        return 0;
    }}
    for (round = 0; round < {rounds}; round++) {{
        {inner}({mine});
        for (part = 0; part < 3; part++) {{
            burn({own} / 3);
            give();
        }}
        nap();
    }}
    return 0;
}}
"""
INNER_TEXT = """#include <kgdbpatch.h>
{burn}
long replaced(long what, long other)
{{
    if (what != {mine})
        return KGP_ORIGINAL(long, long, long)(what, other);
    burn({inner} / 2);
    burn({inner} / 2);
    return 0;
}}
"""


@pytest.fixture(params=["darwin", pytest.param("linux", marks=pytest.mark.linux)])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def worked(kernel: Kernel, subject: Subject) -> Patch:
    """Put the work into a kernel: the inner function and the outer one."""
    text = INNER_TEXT.format(burn=BURN, mine=MINE, inner=INNER)
    kernel.patch(subject.inner, c=text, replace=True, force=True)
    darwin = "run(void *);" in subject.threads and "kernel_thread" in subject.threads
    text = OUTER.format(
        threads=subject.threads,
        burn=BURN,
        mine=MINE,
        inner=subject.inner,
        outer=subject.outer,
        count=THREADS,
        rounds=ROUNDS,
        own=OWN,
        returns="void" if darwin else "int",
        end="" if darwin else "return 0;",
    )
    return kernel.patch(subject.outer, c=text, replace=True, force=True)


def done(kernel: Kernel, subject: Subject, work: Patch) -> None:
    """Have the threads do their work."""
    kernel.call(subject.outer, MINE + THREADS)
    work.variables["go"] = 1  # nothing stops the guest from here on
    until = time.monotonic() + 120
    while work.variables["done"] != THREADS:
        assert time.monotonic() < until
        kernel.assure_alive()


def test_known_work_between_sleeps(name: str) -> None:
    subject = SUBJECTS[name]
    with Kernel.boot(name, f"pytest-{os.getpid()}-timers-{name}", icount=ICOUNT) as kernel:
        work = worked(kernel, subject)
        with ThreadTimers(kernel, [subject.outer, subject.inner], unit="instructions") as timers:
            done(kernel, subject, work)
            rows: dict[str, TimerRow] = {row.function.lstrip("_"): row for row in timers.rows()}
            assert timers.lost == 0
        outer, inner = rows[subject.outer], rows[subject.inner]
        assert outer.calls >= THREADS  # of others as well, which are short
        assert inner.calls >= THREADS * ROUNDS
        assert inner.inclusive == inner.exclusive == pytest.approx(THREADS * ROUNDS * INNER, rel=0.01)
        assert outer.exclusive == pytest.approx(THREADS * ROUNDS * OWN, rel=0.01)
        assert outer.inclusive == pytest.approx(outer.exclusive + inner.exclusive, rel=0.001)
        assert outer.elapsed > 2 * outer.inclusive
        assert outer.longest == pytest.approx(ROUNDS * (INNER + OWN), rel=0.01)
        beat(kernel)
        kernel.remove_all()  # its threads that have ended may hold the payload's memory by their names
        verified = kernel.verify()
        assert (verified.ok, verified.patched) == (True, 0)


@pytest.mark.kernel("darwin")
def test_what_cannot_be_timed_is_told(kernel: Kernel) -> None:
    with pytest.raises(Refused) as refused:
        ThreadTimers(kernel, ["panic"]).start()
    assert refused.value.rule in ("frame", "no return")
    assert kernel.remove_all() == []
    assert kernel.verify().patched == 0
