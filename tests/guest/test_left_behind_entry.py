"""Functions are left from their middle, where it is known who called: a caller of our own is the judge."""

from __future__ import annotations

from itertools import islice

import pytest

from kgdbpatch.errors import Refused
from kgdbpatch.kernel import Kernel

from .test_changed_kernel import ASKED, INCLUDE, Asked
from .work import beat, empty

pytestmark = pytest.mark.long

BOTH = [
    pytest.param("darwin", marks=pytest.mark.kernel("darwin")),
    pytest.param("linux", marks=[pytest.mark.kernel("linux"), pytest.mark.linux]),
]
# functions that nobody else calls, and what they are given: with frames, with saved registers
CALLED = {
    "darwin": ("PE_parse_boot_arg", '(unsigned long)"debug", (unsigned long)room, 4'),
    "linux": ("hex_dump_to_buffer", '(unsigned long)"kernel", 6, 16, 1, (unsigned long)room, 60, 0'),
}
SITES = 8
KEPT = range(14, 32)
LOADED = "".join(f" lwz {3 + n},{4 * n}(12);" for n in range(7))
FILLED = "".join(f" li {n},{100 + n};" for n in KEPT)
COMPARED = "".join(f" cmpwi {n},{100 + n}; bne 1f;" for n in KEPT)
JUDGE = """
unsigned long room[64], given[8] = { ARGUMENTS };
extern int FUNCTION();
__asm__("judge: stwu 1,-128(1); mflr 0; stw 0,132(1); stmw 14,40(1); mfcr 12; stw 12,36(1);"
" lis 12,given@ha; la 12,given@l(12); LOADED FILLED"
" lis 12,0x66; ori 12,12,0x6000; mtcrf 0x38,12; bl FUNCTION; back: COMPARED"
" mfcr 12; rlwinm 12,12,0,8,19; lis 11,0x66; ori 11,11,0x6000; cmpw 12,11; beq 2f;"
"1: lis 3,0x1bad;"
"2: lwz 12,36(1); mtcrf 0x38,12; lmw 14,40(1); lwz 0,132(1); mtlr 0; addi 1,1,128; blr");
extern unsigned long judge(void);
extern const char back[];
unsigned long run(void) { return judge(); }
unsigned long where(void) { return (unsigned long)back; }
void idle(void) { }
"""
LEAVES = """
unsigned long caller;
void f(struct kgp_regs *regs) { caller = kgp_caller(); kgp_return(77); }
"""
LOOKS = "unsigned long caller;\nvoid f(struct kgp_regs *regs) { caller = kgp_caller(); }\n"


@pytest.fixture(params=BOTH)
def asked(request: pytest.FixtureRequest) -> Asked:
    return ASKED[request.param]


def test_a_function_is_left_from_its_middle(kernel: Kernel, asked: Asked) -> None:
    function, arguments = CALLED["linux" if kernel.image.knows("udp_sendmsg") else "darwin"]
    text = INCLUDE + JUDGE
    for word, stands in (
        ("ARGUMENTS", arguments),
        ("FUNCTION", function),
        ("LOADED", LOADED),
        ("FILLED", FILLED),
        ("COMPARED", COMPARED),
    ):
        text = text.replace(word, stands)
    judge = kernel.patch(asked.busy, c=text, entry="idle")
    usual, back = kernel.call(f"{judge.id}:run"), kernel.call(f"{judge.id}:where")
    assert usual != 0x1BAD0000
    around = kernel[function]
    left = seen = 0
    middle = range(around.address + 4, around.end - 4, 4)
    for site in islice(middle, 0, None, max(len(middle) // SITES, 1)):
        try:
            patch = kernel.patch(site, c=INCLUDE + LEAVES, entry="f")
        except Refused:
            continue
        value = kernel.call(f"{judge.id}:run")
        assert value in (77, usual), f"{kernel.symbolize(site)}: 0x{value:x}"
        assert (value == 77) == bool(patch.hits)
        if patch.hits:
            left += 1
            caller = patch.variables["caller"]
            assert isinstance(caller, int)
            told = kernel.symbolize(caller)  # on Darwin a veneer stands between
            assert caller == back or told.startswith(f"{judge.id}:"), f"{kernel.symbolize(site)}: {told}"
            seen += 1
        patch.remove()
    assert left
    assert seen == left
    with kernel.patch(next(iter(middle)), c=INCLUDE + LOOKS, entry="f") as patch:
        kernel.call(f"{judge.id}:run")
        assert patch.variables["caller"]
    beat(kernel)
    empty(kernel)
