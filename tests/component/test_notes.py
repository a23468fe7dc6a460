"""What an update says of itself in the guest is read as it was written, or refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from kgdbpatch.component.layout import BODY_ALIGNMENT
from kgdbpatch.component.notes import Note
from kgdbpatch.errors import ComponentDamaged

NOTE = Note({"name": "fix", "since": 1.5, "functions": ["f"]}, [0xC000_0000, 1], b"PK" * 100)


def test_a_note_is_read_as_it_was_written() -> None:
    packed = NOTE.packed()
    assert len(packed) % BODY_ALIGNMENT == 0
    assert Note.unpacked(packed + b"code") == NOTE
    assert len(NOTE._replace(addresses=[0xFFFF_FFFF, 0]).packed()) == len(packed)


@given(some.data())
def test_a_damaged_note_is_refused_or_read(data: some.DataObject) -> None:
    """Never anything else than our own error."""
    raw = bytearray(NOTE.packed())
    for _ in range(data.draw(some.integers(1, 4))):
        raw[data.draw(some.integers(0, len(raw) - 1))] = data.draw(some.integers(0, 255))
    cut = data.draw(some.integers(0, len(raw)))
    try:
        Note.unpacked(bytes(raw[:cut]))
    except ComponentDamaged:
        return


def test_no_note_is_refused() -> None:
    with pytest.raises(ComponentDamaged):
        Note.unpacked(b"")
    with pytest.raises(ComponentDamaged):
        Note.unpacked(bytes(64))
