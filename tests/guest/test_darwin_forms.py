"""Forms of code that are hard for a patcher occur in the darwin kernel, and its self-check runs them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import pytest

from kgdbpatch.image import Image
from kgdbpatch.isa.decode import decode
from kgdbpatch.kernel import Kernel

from .stub import stub

# a function or label, and what is found there
FORMS = {
    "red_zone_mix": "stwu r7,4(r6)",  # 224 bytes below r1, no frame
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
    "fp_matrix_multiply": "fmadd",
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


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("KGDBPATCH_RUNTIME", str(tmp_path_factory.mktemp("runtime")))
        with Kernel.boot("darwin", "forms") as kernel:
            try:
                yield kernel
            finally:
                kernel.shutdown()


def _code(image: Image, name: str) -> str:
    function = image.function_at(image.lookup(name))
    assert function is not None
    (section,) = (s for s in image.code_sections() if s.name == function.section)
    words = image.words(section)[(function.address - section.address) // 4 :][: function.size // 4]
    found = [decode(int(word), function.address + 4 * n) for n, word in enumerate(words)]
    return "\n".join(f"{each.mnemonic} {each.text}" for each in found)


def test_there_are_hundreds_of_functions(guest: Kernel) -> None:
    assert sum(f.section == "__TEXT,__text" for f in guest.image.functions) >= 400


@pytest.mark.parametrize("name", FORMS)
def test_the_form_occurs(guest: Kernel, name: str) -> None:
    code = _code(guest.image, name)
    wanted = FORMS[name]
    pattern = wanted if wanted.startswith("\\") else re.escape(wanted)
    assert re.search(pattern, code), code


def _unreached(guest: Kernel, names: Iterable[str]) -> list[str]:
    """Return those of the names that the running guest does not come by."""
    left = []
    with stub(guest.qemu) as connection:
        for name in names:
            site = guest.image.lookup(name)
            connection.ask(f"Z1,{site:x},4")
            if not connection.run_to_stop(10) or connection.register("pc") != site:
                left.append(name)
            connection.ask(f"z1,{site:x},4")
    return left


def test_the_self_check_runs_every_form(guest: Kernel) -> None:
    assert not _unreached(guest, FORMS)
    assert guest.log.wait("selfcheck: .* 0 bad", deadline=60, since=guest.log.position())


def test_pieces_that_only_a_computed_branch_reaches_are_reached(guest: Kernel) -> None:
    assert not _unreached(guest, PIECES)
    assert guest.log.wait("selfcheck: .* 0 bad", deadline=60, since=guest.log.position())
