"""Find names close to a misspelt one, quickly among tens of thousands."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher
from heapq import nlargest

__all__ = ["close_names"]


def close_names(name: str, names: Iterable[str], count: int = 3) -> tuple[str, ...]:
    """Return up to ``count`` of ``names`` that somebody who typed ``name`` may have meant."""
    wanted = _plain(name)
    if not wanted:
        return ()
    matcher = SequenceMatcher(autojunk=False)
    matcher.set_seq2(wanted)
    scored: list[tuple[float, int, str]] = []
    for candidate in dict.fromkeys(names):
        plain = _plain(candidate)
        if not 0.5 <= len(plain) / len(wanted) <= 2:
            continue
        if plain[:2] != wanted[:2] and plain[-3:] != wanted[-3:] and wanted not in plain:
            continue
        matcher.set_seq1(plain)
        if matcher.real_quick_ratio() < 0.6 or matcher.quick_ratio() < 0.6:
            continue
        ratio = matcher.ratio() + (0.25 if wanted in plain else 0)
        if ratio >= 0.7:
            scored.append((ratio, -len(candidate), candidate))
    return tuple(candidate for _, _, candidate in nlargest(count, scored))


def _plain(name: str) -> str:
    return name.lstrip("_.").lower()
