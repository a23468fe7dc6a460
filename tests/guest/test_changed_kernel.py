"""Payloads that change the kernel: registers written, results given, functions and calls replaced.

The judge is the kernel's own answer when the function is called from outside.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from kgdbpatch.errors import BadPatch, KgdbPatchError, Misuse, Refused
from kgdbpatch.kernel import Kernel
from kgdbpatch.patch.override import Override
from kgdbpatch.patch.registers import FIELDS
from kgdbpatch.patch.request import PatchRequest
from kgdbpatch.vm.qemu import Qemu

from .parts import arena
from .work import beat, empty

pytestmark = pytest.mark.long

ROUNDS = 10


@dataclass(frozen=True)
class Asked:
    """A function, a call of it that nobody else makes, what that returns; a function that is always run."""

    function: str
    argument: int | bytes
    value: int
    mine: str  # C: whether a call with the first argument `a` is ours
    other: int  # what a call that is not ours returns
    other_argument: int | bytes
    busy: str
    sleep: str  # C: sleep for seconds
    prototype: str  # C: of the function, called f, with a parameter a
    type: str  # C: of the function
    busy_prototype: str
    busy_call: str  # C: of what the busy function was


ASKED = {
    "darwin": Asked(
        "strlen",
        b"kgp!",
        4,
        "*(unsigned *)(a) == 0x6b677021",
        5,
        b"other",
        "run_netisr",
        "delay_ticks(300)",
        "unsigned f(const char *a)",
        "unsigned, const char *",
        "void f(void)",
        "KGP_ORIGINAL(void, void)()",
    ),
    "linux": Asked(
        "int_sqrt",
        81,
        9,
        "(a) == 81",
        4,
        16,
        "udp_sendmsg",
        "msleep(3000)",
        "unsigned long f(unsigned long a)",
        "unsigned long, unsigned long",
        "struct sock; struct msghdr; int f(struct sock *a, struct msghdr *b, unsigned c)",
        "return KGP_ORIGINAL(int, struct sock *, struct msghdr *, unsigned)(a, b, c)",
    ),
}
INCLUDE = "#include <kgdbpatch.h>\n"


@pytest.fixture(
    params=[
        pytest.param("darwin", marks=pytest.mark.kernel("darwin")),
        pytest.param("linux", marks=[pytest.mark.kernel("linux"), pytest.mark.linux]),
    ]
)
def asked(request: pytest.FixtureRequest) -> Asked:
    return ASKED[request.param]


def call(kernel: Kernel, asked: Asked) -> int:
    return kernel.call(asked.function, asked.argument)


def call_other(kernel: Kernel, asked: Asked) -> int:
    return kernel.call(asked.function, asked.other_argument)


def test_a_result_is_given_so_often_so_many_times(kernel: Kernel, asked: Asked) -> None:
    text = (
        Override(-5)
        .source()
        .replace("{\n", f"{{\n    if (!({asked.mine.replace('a', 'regs->r3')})) return;\n", 1)
    )
    with kernel.patch(asked.function, c=text):
        assert call(kernel, asked) == 0xFFFF_FFFB
        assert call_other(kernel, asked) == asked.other
    assert call(kernel, asked) == asked.value
    empty(kernel)


def test_an_override_counts_calls_and_results(kernel: Kernel, asked: Asked) -> None:
    if asked.function == "strlen":
        pytest.skip("the kernel itself calls this function: its calls count")
    with kernel.patch(asked.function, override=Override(-5, times=2, every=3)):
        given = [call(kernel, asked) for _ in range(12)]
    bad = 0xFFFF_FFFB
    assert given == [9, 9, bad, 9, 9, bad, 9, 9, 9, 9, 9, 9]
    empty(kernel)


def test_a_register_is_written(kernel: Kernel, asked: Asked) -> None:
    mine = asked.mine.replace("a", "regs->r3")
    text = f"{INCLUDE}void f(struct kgp_regs *regs) {{ if ({mine}) regs->r3 = NEW; }}"
    new = "100" if isinstance(asked.argument, int) else '(unsigned long)"longer than that"'
    expected = 10 if isinstance(asked.argument, int) else 16
    text = text.replace("NEW", new)
    with kernel.patch(asked.function, c=text):  # not declared: not the kernel's
        assert call(kernel, asked) == asked.value
    with kernel.patch(asked.function, c=text, writes="r3"):
        assert call(kernel, asked) == expected
        assert call_other(kernel, asked) == asked.other
    with kernel.patch(asked.function, c=text + "\nKGP_WRITES(r3);"):
        assert call(kernel, asked) == expected
    empty(kernel)


def test_every_register_is_as_at_the_site(kernel: Kernel, asked: Asked) -> None:
    """The CPU's own registers, read where the body begins, are what the payload is shown."""
    names = [name for name in FIELDS if name not in ("site", "caller", "leaves")]
    words = len(FIELDS)
    text = (
        f"{INCLUDE}volatile unsigned armed[2] = {{0x6b677031, 0}};\nunsigned long seen[{words}];\n"
        f"void f(struct kgp_regs *regs) {{ if (!armed[1]) return; armed[1] = 0;"
        f"for (int n = 0; n < {words}; n++) seen[n] = ((unsigned long *)regs)[n]; }}"
    )
    with kernel.patch(asked.busy, c=text) as patch:
        assert patch.plan is not None
        at = patch.body + patch.plan.code.index(bytes.fromhex("6b677031"))
        with kernel.stopped() as session:
            session.run_to(patch.body, 20)
            before = session.registers()
            special = {name: before[name] for name in names}
            session.write(at + 4, (1).to_bytes(4, "big"))
        beat(kernel)
        # a process may have the CPU, which does not see the arena
        raw = Qemu.attach(kernel.name).ram.read(arena(kernel).inside(at + 8), 4 * words)
    shown = {name: int.from_bytes(raw[offset : offset + 4], "big") for name, offset in FIELDS.items()}
    assert shown["site"] == patch.site
    assert shown["caller"] == before["lr"]
    undone = {"r0", "r11", "r12", "ctr"} if patch.entry == "springboard" else set()
    assert {name: shown[name] for name in names if name not in undone} == {
        name: value for name, value in special.items() if name not in undone
    }
    empty(kernel)


def replacement(asked: Asked, add: int) -> str:
    return (
        f"{INCLUDE}{asked.prototype} {{"
        f"unsigned long value = KGP_ORIGINAL({asked.type})(a);"
        f"return ({asked.mine}) ? value + {add} : value; }}"
    )


def test_a_function_is_replaced_again_and_again(kernel: Kernel, asked: Asked) -> None:
    for number in range(ROUNDS):
        with kernel.patch(asked.function, c=replacement(asked, number), replace=True) as patch:
            assert call(kernel, asked) == asked.value + number
            assert call_other(kernel, asked) == asked.other
            assert kernel.verify().patched == 1
            assert patch.hits is None
        assert call(kernel, asked) == asked.value
    beat(kernel)
    empty(kernel)


def test_replacements_stack_and_leave_in_any_order(kernel: Kernel, asked: Asked) -> None:
    one, ten, hundred = (
        kernel.patch(asked.function, c=replacement(asked, add), replace=True) for add in (1, 10, 100)
    )
    counted = kernel.patch(asked.function, count=True)
    assert call(kernel, asked) == asked.value + 111
    ten.remove()
    assert call(kernel, asked) == asked.value + 101
    one.remove()
    assert call(kernel, asked) == asked.value + 100
    assert counted.hits
    counted.remove()
    assert call(kernel, asked) == asked.value + 100
    hundred.remove()
    assert call(kernel, asked) == asked.value
    beat(kernel)
    empty(kernel)


@pytest.mark.parametrize("over", [False, True])
def test_a_replacement_and_an_insertion_share_a_site(kernel: Kernel, asked: Asked, *, over: bool) -> None:
    insertion = f"{INCLUDE}int calls; void f(struct kgp_regs *regs) {{ calls++; (void)regs; }}"
    first, second = insertion, replacement(asked, 7)
    if over:
        first, second = second, first
    lower = kernel.patch(asked.function, c=first, replace=over)
    upper = kernel.patch(asked.function, c=second, replace=not over)
    counting = upper if over else lower
    before = counting.hits or 0
    assert call(kernel, asked) == asked.value + 7
    assert (counting.hits or 0) > before
    lower.remove()
    assert call(kernel, asked) == asked.value + (0 if over else 7)
    upper.remove()
    assert call(kernel, asked) == asked.value
    empty(kernel)


def test_a_call_is_redirected(kernel: Kernel, asked: Asked) -> None:
    """Of all calls in a busy function one goes elsewhere, which is asked nothing of the others."""
    function, checker = kernel[asked.busy], kernel.site_checker
    text = (
        f"{INCLUDE}int calls; long f(long a, long b, long c, long d, long e, long g, long h, long i) {{"
        "calls++;"
        "return KGP_ORIGINAL(long, long, long, long, long, long, long, long, long)(a, b, c, d, e, g, h, i); }"
    )
    calls = [
        at
        for at in range(function.address, function.end, 4)
        if (instruction := checker.instruction(at)).target is not None
        and instruction.mnemonic == "bl"
        and instruction.target not in function
    ]
    assert calls
    batch = kernel.patch_all(calls, c=text, replace=True, force=True)  # one function for all signatures
    assert len(batch.patches) > len(calls) // 2
    beat(kernel, 2)
    assert kernel.verify().ok
    empty(kernel)


def test_a_thread_asleep_in_a_replacement_keeps_its_memory(kernel: Kernel, asked: Asked) -> None:
    text = (
        f"{INCLUDE}extern void msleep(unsigned), delay_ticks(int); static int once;"
        f"{asked.busy_prototype} {{"
        f"if (!__atomic_fetch_add(&once, 1, 0)) {asked.sleep};"
        f"{asked.busy_call}; }}"
    )
    patch = kernel.patch(asked.busy, c=text, replace=True)
    beat(kernel)
    patch.remove()
    assert patch.state == "retired"
    beat(kernel, 3)
    empty(kernel)


REFUSED = [
    ({"c": "void f(void) {}", "writes": "r3"}, BadPatch, "no parameter struct kgp_regs"),
    ({"c": f"{INCLUDE}void f(struct kgp_regs *regs) {{}}", "writes": "r1"}, BadPatch, "cannot write 'r1'"),
    ({"c": f"{INCLUDE}void f(struct kgp_regs *regs) {{}}", "writes": "f3"}, BadPatch, "cannot write 'f3'"),
    ({"c": f"{INCLUDE}void f(struct kgp_regs *regs, int n) {{}}"}, BadPatch, "its only parameter"),
    ({"c": f"{INCLUDE}KGP_WRITES(r3);\nvoid f(void) {{}}"}, BadPatch, "KGP_WRITES is for"),
    ({"c": f"{INCLUDE}void f(struct kgp_regs *regs) {{}}", "replace": True}, BadPatch, "no struct kgp_regs"),
    ({"asm": "nop", "writes": "r3"}, Misuse, "writes goes with c"),
    ({"count": True, "replace": True}, Misuse, "replace goes with c"),
    ({"override": Override(1 << 32)}, Misuse, "32 bits"),
    ({"override": Override(0, every=0)}, Misuse, "every"),
]


@pytest.mark.parametrize(("what", "error", "told"), REFUSED)
def test_what_makes_no_sense_is_told(
    kernel: Kernel, asked: Asked, what: dict[str, object], error: type[KgdbPatchError], told: str
) -> None:
    used = kernel.arena_used
    with pytest.raises(error, match=re.escape(told)):
        kernel.patch(asked.function, **what)  # type: ignore[arg-type]
    assert kernel.arena_used == used
    assert kernel.patches == []


def test_only_an_entry_is_replaced(kernel: Kernel, asked: Asked) -> None:
    function, checker = kernel[asked.busy], kernel.site_checker
    inside = next(
        at for at in range(function.address + 0x20, function.end, 4) if checker.instruction(at).target is None
    )
    with pytest.raises(Refused, match="neither a function's entry nor a call") as refused:
        kernel.patch(inside, c="void f(void) {}", replace=True)
    assert refused.value.rule == "entry"
    assert kernel.patches == []


@pytest.mark.kernel("linux")
@pytest.mark.linux
def test_an_instruction_is_replaced(kernel: Kernel) -> None:
    """What the old one wrote is the new ones' to write, all else is put back."""
    function = kernel["int_sqrt"]
    words = kernel.words(function.address, function.size // 4).tolist()
    site = function.address + 4 * words.index(0x7C6A_1B78)  # mr r10,r3: what the root is taken of
    assert kernel.call("int_sqrt", 81) == 9
    with kernel.patch(
        site, asm="addi 10,3,19\nli 11,0\nli 8,0\ncmpwi 3,0", replace=True, count=True
    ) as patch:
        assert kernel.call("int_sqrt", 81) == 10
        assert (patch.hits or 0) >= 1
        with kernel.patch(site, count=True) as above:
            assert kernel.call("int_sqrt", 81) == 10
            assert (above.hits or 0) >= 1
            patch.remove()
            assert kernel.call("int_sqrt", 81) == 9  # the one above leads to what was there
    branch = next(at for at, word in enumerate(words) if word >> 26 == 16)
    with pytest.raises(Refused, match="no code runs instead of it"):
        kernel.patch(function.address + 4 * branch, asm="nop", replace=True)
    with pytest.raises(Misuse):
        PatchRequest(count=True, replace=True)
    empty(kernel)
