"""Words that need no conversion are taken as typer itself takes them, and without what makes it slow."""

from __future__ import annotations

import os
import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.core import TyperCommand

from kgdbpatch.cli.words import Command


class Kind(StrEnum):
    QUICK = "quick"
    SLOW = "slow"


def _take(
    name: str,
    more: Annotated[list[str] | None, typer.Argument()] = None,
    said: Annotated[str, typer.Option("--said")] = "nothing",
    maybe: Annotated[str | None, typer.Option("--maybe")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag")] = None,
    file: Annotated[Path | None, typer.Option("--file")] = None,
    there: Annotated[Path | None, typer.Option("--there", exists=True)] = None,
    folder: Annotated[Path | None, typer.Option("--folder", file_okay=False)] = None,
    whole: Annotated[Path | None, typer.Option("--whole", resolve_path=True)] = None,
    count: Annotated[int, typer.Option("--count", min=1)] = 3,
    share: Annotated[float | None, typer.Option("--share", max=1)] = None,
    kind: Annotated[Kind, typer.Option("--kind")] = Kind.QUICK,
    shout: Annotated[str, typer.Option("--shout", parser=str.upper)] = "A",
    quick: Annotated[bool, typer.Option("--quick")] = False,
) -> None:
    """Take words of every kind."""


def _taken(cls: type[TyperCommand], words: list[str]) -> tuple[str, Any]:
    """Return what a command line comes to: the values by name, or its error."""
    app = typer.Typer()
    app.command(cls=cls)(_take)
    try:
        context = typer.main.get_command(app).make_context("take", list(words))
    except Exception as error:
        return type(error).__name__, getattr(error, "message", str(error))
    return "values", {name: (type(value), value) for name, value in context.params.items()}


LINES = [
    "",
    "n",
    "n more and more",
    "-- -n -x",
    "n --said",
    "n --said=",
    "n --said nothing --maybe word",
    "n --tag a --tag b=c",
    "n --file here --there here --folder . --whole here",
    "n --file nowhere",
    "n --file - --there -",
    "n --file gone",
    "n --there nowhere",
    "n --there gone",
    "n --folder here",
    "n --whole ../here",
    "n --count 1",
    "n --count 0",
    "n --count one",
    "n --count 3",
    "n --share 0.5",
    "n --share 2",
    "n --share x",
    "n --kind slow",
    "n --kind idle",
    "n --shout loud",
    "n --quick",
    "n --quick=no",
    "n --wrong",
    "n --cou 2",
]


@pytest.mark.parametrize("line", LINES)
def test_words_are_taken_as_typer_takes_them(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("here").touch()
    Path("gone").symlink_to("nowhere")
    plain = _taken(TyperCommand, line.split())
    assert _taken(Command, line.split()) == plain


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret"
    path.touch()
    monkeypatch.setattr(os, "access", lambda *_: False)  # root can read all
    plain = _taken(TyperCommand, ["n", "--file", str(path)])
    assert plain[0] == "BadParameter"
    assert _taken(Command, ["n", "--file", str(path)]) == plain


def test_words_of_most_commands_load_nothing(tmp_path: Path) -> None:
    """Of typer's converters, which take longer to import than a command that looks at a file takes."""
    source = """
import sys
from kgdbpatch.cli.main import run
for line in ("ps", "ps --json", "list none", "image path none", "functions none x", "check none f --json"):
    run(line.split())
sys.exit("pydantic" in sys.modules)
"""
    environment = {**os.environ, "KGDBPATCH_RUNTIME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", source], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
