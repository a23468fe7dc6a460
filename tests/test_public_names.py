"""Tests know the package by its public names: what begins with an underscore can change without them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
PUBLIC = {"_asdict", "_exit", "_fields", "_make", "_replace"}  # of Python, whatever they look like


def _private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_" and name not in PUBLIC


def _own(tree: ast.AST) -> Iterator[str]:
    """Yield the names that a file itself gives to something, attributes of ``self`` and ``cls`` included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield from [node.attr] if ast.unparse(node.value) in ("self", "cls") else []


def _asked(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of what a file asks of others: attributes, imports, what it patches."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.lineno, node.attr
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kgdbpatch"):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
            ("setattr", "getattr", "delattr")
        ):
            for argument in node.args[:2]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield from ((node.lineno, part) for part in argument.value.split("."))


def _found(source: Path) -> list[str]:
    tree = ast.parse(source.read_text())
    asked = [(line, name) for line, name in _asked(tree) if _private(name)]
    own = set(_own(tree)) if asked else set()
    return [f"{source}:{line}: {name}" for line, name in asked if name not in own]


def test_tests_use_public_names() -> None:
    sources = sorted(TESTS.rglob("*.py"))
    assert len(sources) > 100
    assert [line for source in sources for line in _found(source)] == []


def test_a_private_name_is_found(tmp_path: Path) -> None:
    source = tmp_path / "x.py"
    source.write_text(
        "from kgdbpatch.vm.gdb import _DEADLINE, Session\n"
        "class Own:\n    def __init__(self):\n        self._mine = self._theirs()\n"
        "Own()._mine + gdb._pipes[0]\n"
        "patched.setattr(Gdb, '_exchange', point._replace(x=1))\n"
        "patched.setattr('kgdbpatch.vm.gdb._PIECE', 1)\n"
    )
    told = [line.removeprefix(f"{source}:") for line in _found(source)]
    assert sorted(told) == ["1: _DEADLINE", "4: _theirs", "5: _pipes", "6: _exchange", "7: _PIECE"]
