"""Code at the exits of functions: entry and exit are paired, results are those that the caller gets."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

import pytest

from kgdbpatch.errors import BadPatch, KgdbPatchError, Misuse, Refused
from kgdbpatch.kernel import Kernel, Patch
from kgdbpatch.results import PatchState

from .pairs import INCLUDE, Judge
from .parts import arena
from .work import beat, empty, entries, hits

pytestmark = pytest.mark.long

MINE = 0x6B67_0000  # an argument that nobody else gives
DEEP = 15


@dataclass(frozen=True)
class Subject:
    """Functions of a guest's load, by what they do; what is refused, by rule.

    Those that take their place in tests have other signatures: by force.
    """

    called: str  # its argument may be a number of ours
    busy: str
    judged: tuple[str, ...]  # a plain one, one that calls itself or many others, one that sleeps
    sleep: str  # C: sleep for seconds
    never: str  # a call of it may never return, as often as `ends` is entered
    ends: str
    refused: dict[str, str]


SUBJECTS = {
    "darwin": Subject(
        "strlen",
        "run_netisr",
        ("collatz_next", "ackermann", "tsleep"),
        "delay_ticks(300)",
        "dispatch_exception",
        "task_exit",
        {
            "printf": "frame",
            "panic": "no return",
            "switch_context": "frame",
            "thread_block": "frame",
            "run_netisr+0x8": "entry",
        },
    ),
    "linux": Subject(
        "int_sqrt",
        "udp_sendmsg",
        ("skb_put", "sock_alloc_send_pskb", "do_nanosleep"),
        "msleep(3000)",
        "__schedule",
        "do_exit",
        {
            "_printk": "frame",
            "panic": "no return",
            "_switch": "frame",
            "kfree": "frame",
            "udp_sendmsg+0x20": "entry",
        },
    ),
}


@pytest.fixture(
    params=[
        pytest.param("darwin", marks=pytest.mark.kernel("darwin")),
        pytest.param("linux", marks=[pytest.mark.kernel("linux"), pytest.mark.linux]),
    ]
)
def subject(request: pytest.FixtureRequest) -> Subject:
    return SUBJECTS[request.param]


def test_each_caller_gets_the_result_that_was_told(kernel: Kernel, subject: Subject) -> None:
    for name in subject.judged:
        judge = Judge(kernel, subject.busy, [kernel[name].address])
        assert judge.sites, name
        beat(kernel, 2)
        row = next(row for row in kernel.patch_table(calls=True) if row.exits is not None)
        assert row.exits, name
        assert row.hits is not None
        assert row.inside is not None
        assert (row.unreturned, row.exits + row.inside) == (0, row.hits), name
        judged = judge.judged()
        assert judged.wrong == 0, name
        assert judged.matched, name
        empty(kernel)


def recursive(subject: Subject) -> str:
    """Return a function that is put in another's place and calls that again, so many times."""
    name = subject.called
    return (
        f"{INCLUDE}extern long {name}(long); long f(long x) {{"
        f"if (x < {MINE} || x > {MINE + DEEP}) return KGP_ORIGINAL(long, long)(x);"
        f"return x == {MINE} ? 7 : {name}(x - 1) + x % 16; }}"
    )


WRITES = (
    f"{INCLUDE}KGP_WRITES(r3); unsigned long calls, wrong, last;"
    "void e(struct kgp_exit *exit) {"
    f"if (exit->argument[0] < {MINE} || exit->r3 > {MINE + DEEP}) return;"
    # the deepest call returns first, each from a frame above
    f"if (exit->r3 != {MINE} + calls || (last && exit->sp <= last)) wrong++;"
    "last = exit->sp; calls++; exit->result += wrong ? 10000 : 100; }"
)


def test_calls_within_calls_are_paired_and_results_changed(kernel: Kernel, subject: Subject) -> None:
    value = 7 + sum(number % 16 for number in range(1, DEEP + 1))
    inner = kernel.patch(subject.called, c=recursive(subject), replace=True, force=True)
    assert kernel.call(subject.called, MINE + DEEP) == value
    counted = kernel.patch(subject.called, exit=True, count=True)
    before = hits(counted)
    outer = kernel.patch(subject.called, c=WRITES, exit=True)
    assert kernel.call(subject.called, MINE + DEEP) == value + 100 * (DEEP + 1)
    assert hits(counted) >= before + DEEP + 1
    assert counted.exits == hits(counted)
    outer.remove()
    inner.remove()
    if subject.called == "int_sqrt":
        assert kernel.call(subject.called, 81) == 9
    empty(kernel)


BEGINS = f"""{INCLUDE}
unsigned long begun, ended, wrong;
void kgp_begin(struct kgp_exit *exit)
{{
    exit->kept[0] = exit->r3 * 3;
    exit->kept[5] = exit->sp ^ exit->caller;
    __atomic_fetch_add(&begun, 1, 0);
    __asm__ volatile(
        "li 0,-1; li 4,-1; li 5,-1; li 6,-1; li 7,-1; li 8,-1; li 9,-1; li 10,-1; li 11,-1; li 12,-1;"
        "mtctr 12; mtlr 12; mtxer 12; mtcrf 0xff,12"
        ::: "r0", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "ctr", "lr", "xer",
        "cr0", "cr1", "cr2", "cr3", "cr4", "cr5", "cr6", "cr7");
}}
void e(struct kgp_exit *exit)
{{
    if (exit->kept[0] != exit->r3 * 3 || exit->kept[5] != (exit->sp ^ exit->caller))
        __atomic_fetch_add(&wrong, 1, 0);
    __atomic_fetch_add(&ended, 1, 0);
}}
"""


def number(patch: Patch, name: str) -> int:
    value = patch.variables[name]
    assert isinstance(value, int)
    return value


def test_what_is_kept_at_the_entry_is_there_at_the_exit(kernel: Kernel, subject: Subject) -> None:
    inner = kernel.patch(subject.called, c=recursive(subject), replace=True, force=True)
    value = kernel.call(subject.called, MINE + DEEP)
    outer = kernel.patch(subject.called, c=BEGINS, exit=True)
    assert kernel.call(subject.called, MINE + DEEP) == value
    assert number(outer, "wrong") == 0
    assert number(outer, "begun") >= number(outer, "ended") > DEEP
    outer.remove()
    inner.remove()
    judge = Judge(kernel, subject.busy, [kernel[name].address for name in subject.judged[1:]])
    batch = kernel.patch_all(
        [kernel[name].address for name in (*subject.judged, subject.busy)], c=BEGINS, exit=True
    )
    beat(kernel, 2)
    assert judge.judged().wrong == 0
    for patch in batch.patches:
        assert (number(patch, "wrong"), number(patch, "begun") > 0) == (0, True), patch
    empty(kernel)


def test_what_begins_calls_nothing_of_the_kernel(kernel: Kernel, subject: Subject) -> None:
    text = BEGINS.replace("begun, 1, 0);", 'begun, 1, 0); kgp_printf("begun");')
    with pytest.raises(BadPatch, match="with kgp_begin beside it, a payload may call nothing"):
        kernel.patch(subject.busy, c=text, exit=True)
    assert kernel.patches == []


ARMED = f"""{INCLUDE}
extern void msleep(unsigned), delay_ticks(int);
volatile unsigned armed[2] = {{ {MINE}, 0 }};
static void nap(void) {{ if (armed[1] && __atomic_exchange_n(&armed[1], 0, 0)) SLEEP; }}
"""
ASLEEP = {
    "in the function": "long f(long a, long b, long c)"
    "{ nap(); return KGP_ORIGINAL(long, long, long, long)(a, b, c); }",
    "in the payload": "void e(struct kgp_exit *exit) { (void)exit; nap(); }",
}


@pytest.mark.parametrize("where", ASLEEP)
def test_a_thread_asleep_inside_is_told_and_keeps_the_patch(
    kernel: Kernel, subject: Subject, where: str
) -> None:
    text, replace = ARMED.replace("SLEEP", subject.sleep) + ASLEEP[where], where == "in the function"
    sleeper = patch = kernel.patch(subject.busy, c=text, replace=replace, exit=not replace, force=replace)
    if replace:
        patch = kernel.patch(subject.busy, exit=True, count=True)
    assert sleeper.plan is not None
    at = sleeper.body + sleeper.plan.code.index(MINE.to_bytes(4, "big")) + 4
    with kernel.stopped() as session:
        session.write_physical(arena(kernel).inside(at), (1).to_bytes(4, "big"))
    until, row = time.monotonic() + 60, patch.calls()
    while not row.inside:
        assert time.monotonic() < until
        row = patch.calls()
    assert (row.inside, row.unreturned) == (1, 0)
    patch.remove()
    assert patch.state is PatchState.RETIRED
    beat(kernel, 2)
    empty(kernel)


def test_calls_that_never_return_are_told(kernel: Kernel, subject: Subject) -> None:
    """The last thing that a thread does is a call that does not come back."""
    patch = kernel.patch(subject.never, exit=True, count=True)
    ends = kernel.patch(subject.ends, count=True)
    until = time.monotonic() + 60
    while hits(ends) < 10:
        beat(kernel)
        assert time.monotonic() < until
    row = patch.calls()
    assert row.unreturned
    assert row.inside
    assert row.hits == (row.exits or 0) + row.inside + row.unreturned
    assert row.unreturned >= 5  # those that ended in a call from before the patch are none of its
    kernel.remove(ends.id)
    assert patch.calls().unreturned


def test_many_functions_at_once(kernel: Kernel, subject: Subject) -> None:
    names = "*list*" if subject.called == "strlen" else "udp_*"
    batch = kernel.patch_all(entries(kernel, names), exit=True, count=True)
    assert len(batch.patches) >= 10
    beat(kernel, 2)
    rows = kernel.patch_table(calls=True)
    assert sum(row.exits or 0 for row in rows) > 100
    for row in rows:
        assert row.unreturned == 0, row
        assert row.hits == (row.exits or 0) + (row.inside or 0), row
    empty(kernel)


@pytest.mark.parametrize("via", ["trap", "tails"])
def test_exits_are_told_by_whatever_way_the_function_is_entered(
    kernel: Kernel, subject: Subject, via: str
) -> None:
    if via == "tails" and subject.called != "strlen":
        pytest.skip("this kernel has no room in its vectors' tails")
    value = kernel.call(subject.called, b"whatever") if via == "tails" else None
    with kernel.patch(subject.busy, exit=True, count=True, via=via) as patch:
        assert patch.entry == {"trap": "trap", "tails": "springboard"}[via]
        with kernel.patch(subject.called, c=WRITES, exit=True, via=via):
            assert value is None or kernel.call(subject.called, b"whatever") == value
        beat(kernel)
        row = patch.calls()
    assert row.exits
    assert row.hits == row.exits + (row.inside or 0)
    empty(kernel)


SUMS = f"""{INCLUDE}
extern long long bpf_csum_diff(unsigned long long, unsigned long long, unsigned long long,
                               unsigned long long, unsigned long long);
long f(unsigned long x)
{{
    unsigned words[2] = {{ x, 1 }};
    if ((x & ~0xff) != {MINE})
        return KGP_ORIGINAL(long, unsigned long)(x);
    return bpf_csum_diff(0, 0, (unsigned long)words, 8, x & 0xff);
}}
"""
ADDS = f"{INCLUDE}KGP_WRITES(r4); void e(struct kgp_exit *exit) {{ exit->result_low += 0x1000; }}"


@pytest.mark.linux
@pytest.mark.kernel("linux")
def test_arguments_on_the_stack_are_found(kernel: Kernel) -> None:
    """The fifth argument of 64 bits lies in the caller's frame: here the sum that others are added to."""
    kernel.patch("int_sqrt", c=SUMS, replace=True, force=True)
    plain = [kernel.call("int_sqrt", MINE + seed) for seed in (0, 7, 99)]
    assert len(set(plain)) == 3
    with kernel.patch("bpf_csum_diff", c=ADDS, exit=True):
        changed = [kernel.call("int_sqrt", MINE + seed) for seed in (0, 7, 99)]
    assert changed == [value + 0x1000 for value in plain]
    empty(kernel)


def test_functions_that_want_their_caller_on_top_are_refused(kernel: Kernel, subject: Subject) -> None:
    used = kernel.arena_used
    for site, rule in subject.refused.items():
        with pytest.raises(Refused) as refused:
            kernel.patch(site, exit=True, count=True)
        assert refused.value.rule == rule, site
    assert kernel.arena_used == used
    assert kernel.patches == []


EXIT = f"{INCLUDE}void e(struct kgp_exit *exit) {{ (void)exit; }}"
WRONG: list[tuple[dict[str, object], type[KgdbPatchError], str]] = [
    ({"c": "void e(void) {}", "exit": True}, BadPatch, "the only parameter is a struct kgp_exit *"),
    ({"c": f"{INCLUDE}void e(struct kgp_regs *r) {{}}", "exit": True}, BadPatch, "a struct kgp_exit *"),
    ({"c": EXIT}, BadPatch, "for a function's exits (--exit)"),
    ({"c": f"{INCLUDE}void e(struct kgp_exit *x, int n) {{}}", "exit": True}, BadPatch, "only parameter"),
    ({"c": EXIT, "exit": True, "writes": "r5"}, BadPatch, "its result can be written: r3, r4"),
    ({"c": EXIT, "exit": True, "replace": True}, Misuse, "exit goes with c, or with count alone"),
    ({"asm": "nop", "exit": True}, Misuse, "exit goes with c, or with count alone"),
    ({"override": 0, "exit": True}, Misuse, "exit goes with c, or with count alone"),
]


@pytest.mark.kernel("darwin")
@pytest.mark.parametrize(("what", "error", "told"), WRONG)
def test_what_makes_no_sense_is_told(
    kernel: Kernel, what: dict[str, object], error: type[KgdbPatchError], told: str
) -> None:
    with pytest.raises(error, match=re.escape(told)):
        kernel.patch("strlen", **what)  # type: ignore[arg-type]
    assert kernel.patches == []
