"""What pictures of graphs are made of: counts, groups of nodes, colours."""

from __future__ import annotations

from kgdbpatch.cli.drawing import heat, thickness
from kgdbpatch.profiles.block_counts import BlockCounts
from kgdbpatch.profiles.collapse import distances, grouped, hottest_first, joined


def luminance(colour: str) -> float:
    """Return how bright a colour is, as the contrast of text on it is reckoned (WCAG)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_of_counts() -> None:
    counts = BlockCounts(1.0, {0: 1, 4: 1234, 8: 0}, {12: "reservation", 16: "data", 20: "data"}, {})
    assert [counts.text(at) for at in (0, 4, 8, 12)] == [
        "1 hit",
        "1,234 hits",
        "0 hits",
        "not counted: reservation",
    ]
    assert (counts.most, counts.rules()) == (1234, {"reservation": 1, "data": 2})


def test_groups_are_connected_and_of_one_kind() -> None:
    edges = [(1, 2), (2, 3), (3, 4), (9, 5), (5, 6)]
    kinds = {2: "a", 3: "a", 4: "b", 5: "a", 6: "a"}
    assert grouped(kinds, edges, kinds.__getitem__) == {2: [2, 3], 4: [4], 5: [5, 6]}


def test_joined_edges() -> None:
    edges = [
        (1, 2, "fall", 5),
        (1, 3, "fall", 2),
        (2, 3, "taken", 1),
        (3, 1, "taken", None),
        (2, 1, "taken", 4),
    ]
    assert joined(edges, {2: [2, 3]}) == [(1, 2, "fall", 7), (2, 1, "taken", None)]
    assert joined([(1, 1, "taken", 3)], {}) == [(1, 1, "taken", 3)]


def test_distances_and_order() -> None:
    assert distances(0, {0: [1, 2], 1: [3], 2: [3], 3: [0], 7: [0]}) == {0: 0, 1: 1, 2: 1, 3: 2}
    assert hottest_first([0, 1, 2, 3], {0: 3, 1: 0, 2: 9}) == [2, 0, 3]


def test_heat_grows_and_black_is_read_on_it() -> None:
    colours = [heat(hits, 100_000) for hits in (1, 10, 100, 1000, 10_000, 100_000)]
    bright = [luminance(colour) for colour in colours]
    assert bright == sorted(bright, reverse=True)
    assert len(set(colours)) == len(colours)
    assert all((one + 0.05) / 0.05 > 7 for one in [*bright, luminance(heat(0, 5))])
    assert heat(0, 5) not in colours


def test_thickness_grows() -> None:
    widths = [thickness(count, 1000) for count in (None, 0, 1, 30, 1000, 5000)]
    assert widths[:2] == [1.0, 1.0]
    assert widths == sorted(widths)
    assert widths[-1] == widths[-2] == 5.0
