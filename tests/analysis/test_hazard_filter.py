"""The quick word that a function has no hazards, against the analyses that it saves."""

from __future__ import annotations

import random

import numpy as np
import pytest

from kgdbpatch.analysis.cfg import FlowGraph
from kgdbpatch.analysis.hazard_filter import hazard, may_have_hazard, surely_harmless
from kgdbpatch.analysis.hazards import reservation_window, translation
from kgdbpatch.analysis.stack import exception_return, no_stack, reads_exception
from kgdbpatch.cpu.ppc6xx.msr import KERNEL_SPACE
from kgdbpatch.image import Image
from kgdbpatch.kernel import catalog

FUNCTIONS = 600  # judged in full, of each kernel

PROFILES = pytest.mark.parametrize("profile", ["darwin", pytest.param("linux", marks=pytest.mark.linux)])


def text(image: Image) -> np.ndarray:
    return np.concatenate(
        [np.frombuffer(image.read(s.address, s.size & ~3), ">u4") for s in image.code_sections()]
    ).astype(np.uint32)


@PROFILES
def test_nothing_is_the_matter_with_functions_without_hazards(profile: str) -> None:
    image = Image.load(catalog.build_image(profile))
    functions = [function for function in image.functions if function.size]
    if len(functions) > FUNCTIONS:
        functions = random.Random(7).sample(functions, FUNCTIONS)
    found = 0
    for function in functions:
        words = np.frombuffer(image.read(function.address, function.size & ~3), ">u4").astype(np.uint32)
        if may_have_hazard(words):
            continue
        found += 1
        graph, at = FlowGraph(words, function.address), function.address
        assert not reservation_window(words, at), function.name
        off, turning = translation(words, at, KERNEL_SPACE)
        assert not off | turning, function.name
        assert not no_stack(graph) | exception_return(graph), function.name
        assert not reads_exception(graph), function.name
    assert found > 0.8 * len(functions)


@PROFILES
def test_no_hazardous_word_is_called_harmless(profile: str) -> None:
    words = np.unique(text(Image.load(catalog.build_image(profile))))
    surely = words[surely_harmless(words)]
    assert len(surely) > 0.7 * len(words)
    assert [hex(word) for word in surely.tolist() if hazard.__wrapped__(word)] == []


def test_no_hazardous_word_is_called_harmless_whatever_its_bits() -> None:
    words = np.random.default_rng(7).integers(0, 1 << 32, 300_000, np.uint32)
    words[::2] = words[::2] & 0x03FF_FFFF | 31 << 26  # half of them in the opcode with most forms
    surely = words[surely_harmless(words)]
    assert len(surely) > 1000
    assert [hex(word) for word in surely.tolist() if hazard.__wrapped__(word)] == []
