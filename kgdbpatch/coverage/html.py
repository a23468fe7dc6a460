"""A run as HTML pages that need nothing else: tables of files and functions, a page for each source file."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import groupby
from pathlib import Path

from kgdbpatch.coverage.report import FunctionRow, LineRow, file_rows, share
from kgdbpatch.coverage.run import Run
from kgdbpatch.errors import BadPatch

__all__ = ["write_pages"]

_STYLE = """
body { font: 14px/1.4 sans-serif; margin: 2em; color: #222; background: #fff }
table { border-collapse: collapse } th { text-align: left; border-bottom: 1px solid #888 }
td, th { padding: 2px 1em 2px 0; white-space: nowrap } td.n, th.n { text-align: right }
.bar { display: inline-block; width: 120px; height: 10px; background: #e8b0a8 }
.bar i { display: block; height: 10px; background: #6ab36a }
pre { margin: 0; font: 12px/1.35 monospace } pre > span { display: block; min-height: 1.35em }
.run { background: #d8f0d8 } .not { background: #f8d8d0 } .un { background: #e8e8e8 }
.g { color: #888; display: inline-block; width: 14em }
@media (prefers-color-scheme: dark) {
  body { color: #ddd; background: #1b1b1b } .run { background: #1f3d1f } .not { background: #4d2420 }
  .un { background: #333 } a { color: #8ab4f8 }
}
"""
_CLASSES = {"run": "run", "not run": "not", "not watched": "un"}


def write_pages(
    directory: Path,
    title: str,
    run: Run,
    functions: Sequence[FunctionRow],
    lines: Sequence[LineRow] = (),
    source: Path | None = None,
) -> int:
    """Write ``index.html`` and a page for each file that is at hand in ``source``; return how many pages.

    Without ``lines`` the table is of functions. Raises `BadPatch` where they cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        pages = _file_pages(directory, title, lines, source)
        body = _summary(run) + (_files(lines, pages) if lines else "") + _functions(functions)
        (directory / "index.html").write_text(_page(title, body), errors="surrogateescape")
    except OSError as error:
        raise BadPatch(f"{error.filename or directory}: {error.strerror}") from error
    return 1 + len(pages)


def _page(title: str, body: str) -> str:
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return (
        f"<!DOCTYPE html>\n<html><head>{head}</head>\n<body><h1>{escape(title)}</h1>\n{body}</body></html>\n"
    )


def _summary(run: Run) -> str:
    watched, ran = int(run.watched.sum()), int(run.ran.sum())
    told = f"<p>{ran:,} of {watched:,} watched blocks were run ({share(ran, watched)}).</p>"
    unseen = "".join(f"<li>{count:,}: {escape(rule)}</li>" for rule, count in run.unseen().items())
    more = f"<p>{len(run.start) - watched:,} blocks are not watched; nothing is known of them:</p>"
    return f"{told}{more}<ul>{unseen}</ul>\n" if unseen else told


def _bar(ran: int, watched: int) -> str:
    width = round(100 * ran / watched) if watched else 0
    return f'<span class="bar"><i style="width:{width}%"></i></span>'


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = "".join(f"<th{' class=n' if number else ''}>{head}</th>" for number, head in enumerate(heads))
    body = "\n".join(
        "<tr>"
        + "".join(f"<td{' class=n' if number else ''}>{cell}</td>" for number, cell in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f"<table><tr>{cells}</tr>\n{body}\n</table>\n"


def _files(lines: Sequence[LineRow], pages: dict[str, str]) -> str:
    rows = []
    for row in file_rows(lines):
        watched, name = row.ran + row.not_run, escape(row.file)
        shown = f'<a href="{pages[row.file]}">{name}</a>' if row.file in pages else name
        numbers = (row.ran, row.not_run, row.not_watched)
        rows.append((shown, _bar(row.ran, watched), share(row.ran, watched), *map(str, numbers)))
    return "<h2>Files</h2>\n" + _table(("file", "", "lines run", "run", "not run", "not watched"), rows)


def _functions(functions: Sequence[FunctionRow]) -> str:
    rows = [
        (
            escape(row.function),
            _bar(row.ran, row.watched),
            share(row.ran, row.watched),
            *map(str, (row.ran, row.watched - row.ran, row.blocks - row.watched)),
        )
        for row in functions
    ]
    return "<h2>Functions</h2>\n" + _table(
        ("function", "", "blocks run", "run", "not run", "not watched"), rows
    )


def _file_pages(directory: Path, title: str, lines: Sequence[LineRow], source: Path | None) -> dict[str, str]:
    """Write a page for each file that can be read; return their names."""
    pages = dict[str, str]()
    for file, rows in groupby(lines, key=lambda row: row.file):
        path = Path(file) if source is None else source / file
        try:
            text = path.read_text(errors="replace").splitlines()
        except OSError:
            continue
        known = {row.line: row for row in rows}
        shown = []
        for number, words in enumerate(text, start=1):
            row = known.get(number)
            state = "" if row is None else _CLASSES[row.state]
            count = "" if row is None else "not watched" if row.hits is None else str(row.hits)
            shown.append(
                f'<span class="{state}"><span class="g">{number} {count}</span>{escape(words)}</span>'
            )
        pages[file] = f"file{len(pages)}.html"
        body = '<p><a href="index.html">all files</a></p>\n<pre>' + "".join(shown) + "</pre>\n"
        (directory / pages[file]).write_text(_page(f"{title}: {file}", body), errors="surrogateescape")
    return pages
