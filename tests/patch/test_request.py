"""What may be asked for has one list of names, from the keywords of `Kernel.patch` to options of apply."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import get_type_hints

import pytest

from kgdbpatch.cli.patches import apply
from kgdbpatch.errors import Misuse
from kgdbpatch.patch.request import Asked, PatchRequest

NAMES = {field.name for field in fields(PatchRequest)}
ASKED_BY_PROGRAMS = {"sited", "origin", "uncounted", "link"}  # by traces, and by what is put in again


def test_every_field_may_be_given_as_a_keyword_and_as_an_option() -> None:
    assert get_type_hints(Asked) == get_type_hints(PatchRequest)
    assert inspect.signature(apply).parameters.keys() >= NAMES - ASKED_BY_PROGRAMS


def test_what_does_not_go_together_is_told_in_the_words_of_whoever_asks() -> None:
    with pytest.raises(Misuse, match=r"^give exactly one of asm, c, call, override, or just count$"):
        PatchRequest()
    with pytest.raises(Misuse, match=r"^give exactly one of --asm, --c, --call, --return, or just"):
        apply("nobody", "nowhere")
    with pytest.raises(Misuse, match=r"^--entry goes with --c: it names a function of the C file \(see"):
        apply("nobody", "nowhere", entry="f", count=True)
