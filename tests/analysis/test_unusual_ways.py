"""What code of other hands does: registers live by no convention, calls through numbers, labels in tables."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from kgdbpatch.image import Image
from kgdbpatch.kernel import offline

from .code import needs_as
from .marked import function, wrong_marks

pytestmark = needs_as

FRAME = "stwu r1,-32(r1)\n mflr r0\n stw r0,36(r1)\n"
LEAVE = "lwz r0,36(r1)\n mtlr r0\n addi r1,r1,32\n blr\n"
LEAF = function("leaf", "addi r3,r3,1\n blr")
G = function("g", "li r3,1\n blr")
TAKES = function("takes", "add r3,r3,r5\n add r3,r3,r6\n blr")


def _framed_helper(sets: str, live: str, reads: str) -> str:
    """Return a caller that hands a register to a helper, which makes a frame and reads it late."""
    helper = f"stwu r1,-16(r1)\n mflr r0\n stw r0,20(r1)\n cmpwi r3,0\n beq 1f\n {reads}\n1: bl g\n"
    helper += " lwz r0,20(r1)\n mtlr r0\n addi r1,r1,16\n blr"
    caller = function("f", f"{FRAME} {sets}\n li r9,4\n @live {live}\n @free r9\n bl helper\n{LEAVE}")
    return caller.replace(" @", "\n@") + function("helper", helper) + G


HELPERS = {
    "r12": ("li r12,5", "r12", "add r3,r3,r12"),
    "a field of CR": ("cmpwi cr5,r4,5", "cr5", "beq cr5,1f"),
    "CTR": ("mtctr r4", "ctr", "mfctr r5"),
    "CA": ("addic r4,r4,-1", "ca", "addze r3,r3"),
}


@pytest.mark.parametrize("helper", HELPERS.values(), ids=HELPERS)
def test_a_helper_with_a_frame_may_be_given_any_register(
    helper: tuple[str, str, str], tmp_path: Path
) -> None:
    assert wrong_marks(_framed_helper(*helper), tmp_path) == []


PASSED = {
    "set before": f"{FRAME} li r5,3\n li r6,4\n@live r5 r6\n bl leaf\n@live r5 r6\n bl takes\n {LEAVE}",
    "its own": f"{FRAME}@live r5 r6\n bl leaf\n bl takes\n {LEAVE}",
    "to a tail call": f"{FRAME}@live r5 r6\n bl leaf\n lwz r0,36(r1)\n mtlr r0\n addi r1,r1,32\n b takes\n",
    "past two": f"{FRAME}@live r5 r6\n bl leaf\n@live r5 r6\n bl leaf\n bl takes\n {LEAVE}",
    "not to what does not read them": f"{FRAME} bl takes\n@free r0 r7 r8\n bl leaf\n {LEAVE}",
}


@pytest.mark.parametrize("code", PASSED.values(), ids=PASSED)
def test_arguments_that_pass_a_call_that_leaves_them_alone(code: str, tmp_path: Path) -> None:
    """As clang leaves them with registers allocated across functions."""
    assert wrong_marks(function("f", code) + LEAF + TAKES, tmp_path) == []


def test_what_a_caller_keeps_where_all_below_leave_it_alone(tmp_path: Path) -> None:
    """As clang does with -enable-ipra: r5 and r9 outlive the call, so they are live in all that is called."""
    source = function("f", f"{FRAME} li r5,1\n li r9,2\n bl own\n add r3,r3,r5\n add r3,r3,r9\n {LEAVE}")
    own = f"{FRAME}@live r5 r9\n@free r6 r10\n bl leaf\n bl jumps\n@live r5 r9\n{LEAVE}"
    jumps = function("jumps", "@live r5 r9\n@free r6 r10\n b leaf")
    leaf = LEAF.replace("blr", "\n@live r5 r9\n@free r6 r10\n blr")
    assert wrong_marks(source + function("own", own) + jumps + leaf, tmp_path) == []


FOUR = function("four", "li r3,0\n li r4,1\n li r5,2\n li r6,3\n@live r3 r4 r5 r6\n@free r7\n blr")
FOUR += ".data\n.long four\n"


@pytest.mark.parametrize(
    "caller",
    [
        function("f", f"{FRAME} mtctr r3\n bctrl\n add r3,r5,r6\n {LEAVE}"),
        function("f", f"{FRAME} bl t\n add r3,r5,r6\n {LEAVE}")
        + function("t", "lwz r9,0(r3)\n mtctr r9\n bctr"),
    ],
)
def test_results_in_four_registers_through_a_pointer(caller: str, tmp_path: Path) -> None:
    assert wrong_marks(caller + FOUR, tmp_path) == []


COMPLEX = """
static __attribute__((noinline)) _Complex long long both(int a) {
    _Complex long long z; __real__ z = a * 1000000007LL; __imag__ z = a * 77777777777LL; return z; }
_Complex long long (*volatile pointer)(int) = both;
int _start(int a) { _Complex long long z = pointer(a); return (int)(__imag__ z >> 5) + (int)__real__ z; }
"""


@pytest.mark.skipif(shutil.which("powerpc-linux-gnu-gcc") is None, reason="no powerpc-linux-gnu-gcc")
def test_a_complex_result_of_gcc(tmp_path: Path) -> None:
    (tmp_path / "x.c").write_text(COMPLEX)
    flags = ("-O2", "-nostdlib", "-static", "-fno-pic", "-mcpu=750")
    subprocess.run(["powerpc-linux-gnu-gcc", *flags, "-o", "x.elf", "x.c"], cwd=tmp_path, check=True)
    image = Image.load(tmp_path / "x.elf")
    both = image.function_at(image.lookup("both"))
    assert both is not None
    assert not {"r5", "r6"} & set(offline.site_checker(image).live(both.end - 4).free)


def test_a_caller_that_is_in_no_function_may_look_at_anything(tmp_path: Path) -> None:
    source = function("f", f"{FRAME} bl g\n {LEAVE}") + function("g", "li r4,1\n li r9,2\n@live r4 r9\n blr")
    source += '.section .text.other,"ax"\n mflr r30\n bl g\n add r3,r4,r9\n mtlr r30\n blr\n'
    assert wrong_marks(source, tmp_path) == []


SAVER = function("save", "stw r30,-8(r11)\n stw r31,-4(r11)\n blr") + G
SAVER += function("rest", "lwz r0,4(r11)\n lwz r30,-8(r11)\n lwz r31,-4(r11)\n mtlr r0\n mr r1,r11\n blr")
SAVER += ".data\nslot: .long save\n.text\n"
NUMBER = "lis r12,save@ha\n addi r12,r12,save@l\n mtctr r12\n"
CALLS = {
    "by CTR": (f"{NUMBER}@live r30 r31\n bctrl\n", ""),
    "by CTR, set before": (f"{NUMBER} cmpwi r3,0\n beq 1f\n addi r4,r4,1\n1:\n@live r30 r31\n bctrl\n", ""),
    "by LR": (f"{NUMBER.replace('mtctr', 'mtlr')}@live r30 r31\n blrl\n", ""),
    "by memory": ("lis r12,slot@ha\n lwz r12,slot@l(r12)\n mtctr r12\n@live r30 r31\n bctrl\n", ""),
    "by a stub": ("@live r30 r31\n bl stub\n", function("stub", f"{NUMBER} bctr")),
    "by a stub and memory": (
        "@live r30 r31\n bl stub\n",
        function("stub", "lis r12,slot@ha\n lwz r12,slot@l(r12)\n mtctr r12\n bctr"),
    ),
    "by a stub that jumps": ("@live r30 r31\n bl stub\n", function("stub", "b save")),
}


@pytest.mark.parametrize(("call", "stub"), CALLS.values(), ids=CALLS)
def test_a_saver_that_is_called_the_long_way(call: str, stub: str, tmp_path: Path) -> None:
    user = f"{FRAME} addi r11,r1,32\n {call}@free r30 r31\n mr r31,r3\n mr r30,r4\n bl g\n add r3,r31,r30\n"
    assert wrong_marks(function("f", f"{user} addi r11,r1,32\n b rest") + stub + SAVER, tmp_path) == []


def _keeper(store: str) -> str:
    """Return a routine that saves r31 for its caller, and for itself as well."""
    own = f"stwu r1,-16(r1)\n {store}\n stw r31,8(r1)\n li r31,5\n stw r31,0(r3)\n lwz r31,8(r1)\n"
    user = f"{FRAME}@live r31\n bl keeper\n li r31,5\n bl g\n lwz r31,24(r1)\n {LEAVE}"
    return function("f", user) + function("keeper", f"{own} addi r1,r1,16\n blr") + G


@pytest.mark.parametrize("store", ["addi r11,r1,16\n stw r31,24(r11)", "lwz r11,0(r1)\n stw r31,24(r11)"])
def test_a_store_above_the_frame_is_for_the_caller(store: str, tmp_path: Path) -> None:
    assert wrong_marks(_keeper(store), tmp_path) == []


def test_a_prologue_and_an_epilogue_of_one_name(tmp_path: Path) -> None:
    both = "stwu r1,-32(r1)\n stw r30,24(r1)\n stw r31,28(r1)\n stw r0,36(r1)\n blr\n lwz r0,36(r1)\n"
    both += " lwz r30,24(r1)\n lwz r31,28(r1)\n mtlr r0\n addi r1,r1,32\n blr"
    user = "mflr r0\n@live r30 r31\n bl both\n mr r31,r3\n mr r30,r4\n bl g\n add r3,r30,r31\n b both+20"
    assert wrong_marks(function("f", user) + function("both", both) + G, tmp_path) == []


TAKEN = {
    "lis, addi": "lis r9,g@ha\n addi r9,r9,g@l\n",
    "clang's li, addis": "li r9,g@l\n addis r9,r9,g@ha\n",
    "from the pc": "bcl 20,31,1f\n1: mflr r9\n addis r9,r9,(g-1b)@ha\n addi r9,r9,(g-1b)@l\n",
    "near the pc": "bl 1f\n1: mflr r9\n addi r9,r9,g-1b\n",
}


@pytest.mark.parametrize("code", TAKEN.values(), ids=TAKEN)
def test_a_function_whose_address_is_made_has_callers_unseen(code: str, tmp_path: Path) -> None:
    source = function("f", f"{FRAME}{code} stw r9,0(r3)\n bl g\n li r4,0\n {LEAVE}")
    assert wrong_marks(source + function("g", "li r3,0\n li r4,1\n@live r4\n@free r5\n blr"), tmp_path) == []
