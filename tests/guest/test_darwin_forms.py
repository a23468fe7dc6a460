"""Forms of code that are hard for a patcher occur in the darwin kernel, and its self-check runs them."""

from __future__ import annotations

import re

import pytest

from kgdbpatch.image import Image
from kgdbpatch.kernel import Kernel

# a function or label, and what is found there
FORMS = {
    "red_zone_mix": "stwu r7, 4(r6)",  # 224 bytes below r1, no frame
    "red_zone_digits": "stbx",
    "string_move": "lswx",
    "string_move_far": "stswx",
    "string_hash": "lswx",
    "string_move_20": "lswi",
    "many_move": "lmw",
    "many_sum": "stmw",
    "pic_entry": "bcl",
    "pic_distance": "bcl",
    "dispatch": "bctr",
    "machine_run": "bctr",
    "tail_table": "bctr",  # to a function of C
    "condition_mix": "crorc",
    "dispatched": "bctr",  # the compiler's jump table
    "fp_dot": "fmadd",
    "fp_restore_check": "lfd",
    "matrix_multiply": "fmadd",
    "work_messages": "",
    "serve_one": "bctrl",  # a call through a table
    "hw_atomic_sub": r"\bb ",  # a tail call
    "hw_compare_and_store": "stwcx.",
    "in_cksum_words": "adde",
}
# pieces that only a bctr leads to
PIECES = [
    *(f"Ldispatch_{n}" for n in ("add", "subtract", "multiply", "nand", "rotate", "maximum", "count", "gcd")),
    *(f"Lmachine_{n}" for n in ("double", "increment", "invert", "square", "swap", "end")),
]


def _code(image: Image, name: str) -> str:
    from kgdbpatch.isa import decode

    function = image.function_at(image.lookup(name))
    assert function is not None
    (section,) = (s for s in image.code_sections() if s.name == function.section)
    words = image.words(section)[(function.address - section.address) // 4 :][: function.size // 4]
    return "\n".join(decode(int(w), function.address + 4 * n).text for n, w in enumerate(words))


def test_there_are_hundreds_of_functions(kernel: Kernel) -> None:
    assert sum(f.section == "__TEXT,__text" for f in kernel.image.functions) >= 400


@pytest.mark.parametrize("name", FORMS)
def test_the_form_occurs(kernel: Kernel, name: str) -> None:
    code = _code(kernel.image, name)
    wanted = FORMS[name]
    pattern = wanted if wanted.startswith("\\") else re.escape(wanted)
    assert re.search(pattern, code), code


def test_the_self_check_runs_every_form(kernel: Kernel) -> None:
    for name in FORMS:
        kernel.patch(name, asm="nop\n", count=True)
    kernel.log.wait(" 0 bad", deadline=60, since=kernel.log.position())
    kernel.log.wait(" 0 bad", deadline=60, since=kernel.log.position())
    hits = {kernel.image.symbolize(patch.site): patch.hits for patch in kernel.list()}
    assert len(hits) == len(FORMS)
    assert all(hits.values()), hits
    kernel.remove_all()


def test_pieces_that_only_a_computed_branch_reaches_are_reached(kernel: Kernel) -> None:
    for name in PIECES:
        kernel.patch(kernel.image.lookup(name), asm="nop\n", count=True)
    kernel.log.wait(" 0 bad", deadline=60, since=kernel.log.position())
    kernel.log.wait(" 0 bad", deadline=60, since=kernel.log.position())
    hits = {kernel.image.symbolize(patch.site): patch.hits for patch in kernel.list()}
    assert len(hits) == len(PIECES)
    assert all(hits.values()), hits
    kernel.remove_all()
