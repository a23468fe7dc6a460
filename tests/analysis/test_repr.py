"""What a user sees in a session: one line for each object, addresses in hex."""

from __future__ import annotations

import numpy as np

from kgdbpatch.analysis.cfg import FlowGraph
from kgdbpatch.isa.decode import decode, decode_array

WORDS = np.array([0x2C030000, 0x41820008, 0x38600001, 0x4E800020], dtype=np.uint32)


def test_objects_are_one_line() -> None:
    graph = FlowGraph(WORDS, 0xC0001000)
    assert repr(graph) == "FlowGraph(0xc0001000, 0xc0001010)"
    assert repr(graph.block_at(0xC0001000)) == "Block(0xc0001000, 0xc0001008)"
    assert repr(graph.at(0xC0001004)) == "Instruction(0xc0001004: beq 0xc000100c)"
    assert repr(decode(0)) == "Instruction(0x00000000: .long 0x00000000)"
    assert repr(decode_array(WORDS)) == "Decoded(4 words)"
