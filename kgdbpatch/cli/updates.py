"""Commands about updates, hot patches made of source patches: build, show."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from kgdbpatch.cli.options import AsJson
from kgdbpatch.cli.output import json_line, table, tell
from kgdbpatch.cli.waiting import progress
from kgdbpatch.cli.words import Command, Group

if TYPE_CHECKING:
    from kgdbpatch.updates.archive import Update

__all__ = ["update"]

update = typer.Typer(
    cls=Group, no_args_is_help=True, help="Make hot patches of source patches, and look at them."
)


@update.command("build", cls=Command)
def build(
    patch: Annotated[Path, Argument(metavar="FIX.patch", help="A unified diff of the kernel's source.")],
    tree: Annotated[
        Path,
        Option("--tree", metavar="DIR", help="The kernel's tree as Kbuild has built it; it is only read."),
    ],
    output: Annotated[
        Path | None,
        Option(
            "--output", "-o", metavar="OUT.kup", show_default=False, help="Write it there, not to FIX.kup."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compile what a source patch touches, with and without it, and keep what differs as an update.

    The tree must be the one that the running kernel was built in, with its objects and the .cmd files beside
    them. Each object that is made from a touched file is compiled twice by the tree's own command. Functions
    that differ are replaced: those into which a changed one was inlined, too. New functions and data go
    along. What no program can decide is listed: changed structures, initial values, tables of functions,
    and code that the kernel treats specially. An update with such decisions is not applied until each is
    decided in its update.toml, or accepted by its ID.

    \b
    Examples:
      kgdbpatch update build fix.patch --tree ~/linux-6.1
      kgdbpatch update build fix.patch --tree ~/linux-6.1 -o fix.kup
      kgdbpatch update show fix.kup
    """
    from kgdbpatch.updates.archive import write_update
    from kgdbpatch.updates.build import build_update

    with progress(f"compiling what {patch.name} touches") as say:
        found = build_update(patch, tree, say)
    path = output or Path(patch.with_suffix(".kup").name)
    write_update(found, path)
    _told(found, path, as_json)


@update.command("show", cls=Command)
def show(
    file: Annotated[Path, Argument(metavar="FILE.kup", help="An update.")],
    as_json: AsJson = False,
) -> None:
    """Print what an update replaces and brings along, which kernel it is for, and what is to be decided.

    \b
    Examples:
      kgdbpatch update show fix.kup
      kgdbpatch update show fix.kup --json
    """
    from kgdbpatch.updates.archive import read_update

    _told(read_update(file), file, as_json)


def _told(found: Update, path: Path, as_json: bool) -> None:
    manifest = found.manifest
    if as_json:
        json_line({"path": str(path), **asdict(manifest)})
        return
    tell(f"{path}: {manifest.name}{': ' if manifest.description else ''}{manifest.description}")
    tell(
        f"for {manifest.made_for.release or 'a kernel unknown'}, "
        f"build {manifest.made_for.build_id or 'unknown'}"
    )
    rows = [("replaces", one.name, one.file, one.size) for one in manifest.function]
    rows += [
        ("writes" if one.kind == "write" else "new", one.name, one.file, one.size) for one in manifest.data
    ]
    table(("WHAT", "NAME", "SOURCE", "BYTES"), rows)
    for note in manifest.notes:
        tell(note)
    for one in manifest.decision:
        tell(f"{'decided' if one.decided else 'to decide'}: {one.id}: {one.text}")
