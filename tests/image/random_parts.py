"""Sections and places in them, as hypothesis finds them."""

from __future__ import annotations

from hypothesis import strategies as st

from kgdbpatch.image import Section

__all__ = ["PLACES", "SECTIONS"]

PLACES = st.lists(st.integers(0, 120), max_size=20)
SECTIONS = st.lists(
    st.builds(
        Section,
        st.sampled_from([".text", ".data"]),
        st.integers(0, 90),
        st.integers(0, 60),
        st.just(b""),
        st.booleans(),
        st.just(False),
    ),
    max_size=4,
).map(tuple)
