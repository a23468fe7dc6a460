"""Print the matrix."""

from __future__ import annotations

import io
import re

import pytest
from rich import box
from rich.console import Console
from rich.table import Table

from kgdbpatch.errors import BuildFailed

from .cells import BOARDS, Cell

_NODE = re.compile(r"zoo/test_cells\.py::test_(\w+)\[(.+)\]$")


def _has_source(cell: Cell) -> bool:
    """Tell whether the source is installed that a cell's kernel is built of."""
    try:
        cell.recipe.image_path()
    except BuildFailed:
        return False
    return True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the cells of the board whose turn it is."""
    turn = config.getoption("--turn")
    if turn is None:
        return
    boards = [board for board in BOARDS if _has_source(Cell(*board))]
    board = boards[turn % len(boards)]
    cells = {item: item.callspec.params.get("guest") for item in items if hasattr(item, "callspec")}
    others = [item for item, cell in cells.items() if isinstance(cell, Cell) and cell.board != board]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in others]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print which check of which guest holds, and its figures."""
    cells: dict[str, dict[str, str]] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, ()):
            if found := _NODE.search(report.nodeid):
                told = dict(report.user_properties).get("zoo", "") if outcome == "passed" else ""
                cells.setdefault(found[2], {})[found[1]] = f"{told or outcome}"
    if not cells:
        return
    checks = list(dict.fromkeys(check for row in cells.values() for check in row))
    table = Table("guest", *checks, box=box.ASCII)
    for cell, row in cells.items():
        table.add_row(cell.replace(",", ", "), *(row.get(check, "") for check in checks))
    text = io.StringIO()
    Console(file=text, width=max(140, 24 * len(checks))).print(table)
    terminalreporter.write_line(text.getvalue())
