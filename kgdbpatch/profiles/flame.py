"""Draw stacks as a flame graph: one SVG file with all that it needs, titles and zoom included."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from html import escape
from zlib import crc32

from kgdbpatch.profiles.rows import StackRow

__all__ = ["flame_graph"]

_WIDTH, _HEIGHT, _MARGIN, _HEAD = 1200, 17, 10, 56  # of the picture, of a frame; what is around them
_LETTER = 7.1  # width of a letter
_LEAST = 0.25  # of a frame's width: what is narrower is not drawn

_SCRIPT = """
const all = [...document.querySelectorAll('g.f')], told = document.getElementById('told');
const W = %(width)d, M = %(margin)d;
function place(g, x, w) {
  const r = g.querySelector('rect'), t = g.querySelector('text');
  g.style.display = w < %(least)s ? 'none' : '';
  r.setAttribute('x', x); r.setAttribute('width', Math.max(w - 0.5, 0.2)); t.setAttribute('x', x + 3);
  const room = Math.floor((w - 6) / %(letter)s), name = g.dataset.n;
  t.textContent = room < 3 ? '' : name.length <= room ? name : name.slice(0, room - 2) + '..';
}
function zoom(g) {
  const x0 = +g.dataset.x, w0 = +g.dataset.w, d0 = +g.dataset.d;
  for (const o of all) {
    const x = +o.dataset.x, w = +o.dataset.w, d = +o.dataset.d, k = W - 2 * M;
    const under = d < d0 && x <= x0 + 1e-9 && x + w >= x0 + w0 - 1e-9;
    if (under) place(o, M, k);
    else if (x >= x0 - 1e-9 && x + w <= x0 + w0 + 1e-9 && d >= d0)
      place(o, M + (x - x0) / w0 * k, w / w0 * k);
    else o.style.display = 'none';
    o.style.opacity = under ? 0.6 : 1;
  }
}
for (const g of all) {
  g.addEventListener('click', () => zoom(g));
  g.addEventListener('mouseenter', () => { told.textContent = g.querySelector('title').textContent; });
  g.addEventListener('mouseleave', () => { told.textContent = ''; });
}
"""


@dataclass
class _Frame:
    """A frame of stacks that have all below it in common."""

    name: str
    count: int = 0
    above: dict[str, _Frame] = field(default_factory=dict)


def _tree(rows: Iterable[StackRow]) -> _Frame:
    root = _Frame("all")
    for row in rows:
        frame = root
        frame.count += row.count
        for name in row.stack:
            frame = frame.above.setdefault(name, _Frame(name))
            frame.count += row.count
    return root


def _placed(frame: _Frame, start: int, depth: int) -> Iterator[tuple[_Frame, int, int]]:
    """Yield frames with how many samples are left of them, and how deep they are."""
    pending = [(frame, start, depth)]
    while pending:
        one, start, depth = pending.pop()
        yield one, start, depth
        for _, above in sorted(one.above.items()):
            pending.append((above, start, depth + 1))
            start += above.count


def _colour(name: str) -> str:
    """Return a colour: a warm one, cold for processes and threads; the same for the same name."""
    number = crc32(name.encode(errors="replace"))
    if name.startswith("["):
        return f"hsl({200 + number % 30}, 45%, {72 + number // 64 % 10}%)"
    return f"hsl({number % 48 + 6}, {70 + number // 64 % 20}%, {60 + number // 4096 % 14}%)"


def flame_graph(rows: Iterable[StackRow], title: str, unit: str = "samples") -> str:
    """Return the SVG of a flame graph: widths are shares, what is called stands on what called it."""
    root = _tree(rows)
    total = max(root.count, 1)
    placed = [*_placed(root, 0, 0)]
    levels = 1 + max(depth for _, _, depth in placed)
    height = _HEAD + levels * _HEIGHT + _MARGIN
    inner = _WIDTH - 2 * _MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
        f'height="{height}" font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="12">',
        "<style>g.f { cursor: pointer } g.f:hover rect { stroke: #222; stroke-width: 1 } "
        "text { pointer-events: none }</style>",
        f'<rect x="0" y="0" width="{_WIDTH}" height="{height}" fill="#fbfaf7"/>',
        f'<text x="{_WIDTH / 2}" y="22" text-anchor="middle" font-size="16" fill="#222">'
        f"{_plain(title)}</text>",
        f'<text id="told" x="{_MARGIN}" y="44" fill="#444">{root.count:,} {unit}</text>',
    ]
    for frame, start, depth in placed:
        share, left = frame.count / total, start / total
        width = share * inner
        if width < _LEAST:
            continue
        x, y = _MARGIN + left * inner, height - _MARGIN - (depth + 1) * _HEIGHT
        room = int((width - 6) / _LETTER)
        name = frame.name
        shown = "" if room < 3 else name if len(name) <= room else f"{name[: room - 2]}.."
        told = f"{name}: {frame.count:,} {unit}, {100 * share:.2f}%"
        lines.append(
            f'<g class="f" data-n="{_plain(name)}" data-x="{left:.6f}" data-w="{share:.6f}" data-d="{depth}">'
            f"<title>{_plain(told)}</title>"
            f'<rect x="{x:.2f}" y="{y}" width="{max(width - 0.5, 0.2):.2f}" height="{_HEIGHT - 1}" rx="1" '
            f'fill="{_colour(name)}"/>'
            f'<text x="{x + 3:.2f}" y="{y + 12}" fill="#111">{_plain(shown)}</text></g>'
        )
    script = _SCRIPT % {"width": _WIDTH, "margin": _MARGIN, "least": _LEAST, "letter": _LETTER}
    lines += [f"<script><![CDATA[{script}]]></script>", "</svg>", ""]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Return a text for XML; control characters, which it cannot have, as question marks."""
    return escape("".join(one if one.isprintable() else "?" for one in text))
