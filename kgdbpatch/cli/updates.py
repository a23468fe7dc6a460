"""Commands about updates, hot patches made of source patches: build, show, apply, list, remove."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from kgdbpatch.cli.options import AsJson, ImageFile, Name, Wait, attach
from kgdbpatch.cli.output import clock, json_line, table, tell
from kgdbpatch.cli.waiting import progress
from kgdbpatch.cli.words import Command, Group
from kgdbpatch.errors import Misuse
from kgdbpatch.results import UpdateRow

if TYPE_CHECKING:
    from kgdbpatch.updates.archive import Update

__all__ = ["export", "update"]

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


Moment = Annotated[
    float,
    Option("--moment", metavar="SECONDS", min=0, help="How long to wait for a moment when nobody is inside."),
]
Forced = Annotated[
    bool, Option("--force", help="Do not wait: who is inside goes on in the code that he entered.")
]


@update.command("apply", cls=Command)
def apply(
    name: Name,
    file: Annotated[Path, Argument(metavar="FILE.kup", help="An update, or a set of them.")],
    accept: Annotated[
        list[str] | None,
        Option(
            "--accept", metavar="ID", help="A decision that is yours, as 'update show' lists them; or all."
        ),
    ] = None,
    moment: Moment = 10.0,
    force: Forced = False,
    image: ImageFile = None,
    wait: Wait = 10.0,
    as_json: AsJson = False,
) -> None:
    """Put an update into a running kernel: all of it in one stop, or nothing.

    The change is made at a moment in which no CPU is in a function that is replaced, and no thread will
    return to one; who is, is named when there is no such moment. Functions are compared with the code that
    the update was made from, so another kernel's are refused. The update's own pre_apply may say no, its
    transform changes data while all stands still. The same file again changes nothing; another file of the
    same name takes its place in the same stop.

    \b
    Examples:
      kgdbpatch update apply linux fix.kup
      kgdbpatch update apply linux fix.kup --accept all --moment 30
    """
    with attach(name, image, wait) as kernel:
        before = {row.sha256 for row in kernel.updates}
        with progress(f"applying {file.name}") as say:
            rows = kernel.updates.apply_set(file, wait=moment, force=force, accept=accept or (), progress=say)
        pause = kernel.updates.pause_us
        for row in rows:
            if not isinstance(row, UpdateRow):
                from kgdbpatch.cli.patches import show_applied  # it imports this one

                show_applied(kernel, row, row.id, row.pause_us, as_json)
    for row in rows:
        if not isinstance(row, UpdateRow):
            continue
        if as_json:
            json_line({**asdict(row), "pause_us": pause})
        elif row.sha256 in before:
            tell(f"{row.name} is in already")
        else:
            tell(f"{row.name}: {_what(row)}; the guest stood still for {pause / 1000:.1f} ms")


def _what(row: UpdateRow) -> str:
    parts = [f"replaces {', '.join(row.functions)}"] if row.functions else []
    parts += [f"writes {', '.join(row.data)}"] if row.data else []
    return "; ".join(parts)


@update.command("list", cls=Command)
def list_updates(name: Name, image: ImageFile = None, wait: Wait = 10.0, as_json: AsJson = False) -> None:
    """List the updates of a running kernel: what they change, since when, from which file.

    \b
    Examples:
      kgdbpatch update list linux
      kgdbpatch update list linux --json
    """
    with attach(name, image, wait) as kernel:
        rows = [*kernel.updates]
    if as_json:
        for row in rows:
            json_line(asdict(row))
        return
    if not rows:
        tell("no updates")
        return
    since = (clock(row.since) for row in rows)
    table(
        ("NAME", "STATE", "SINCE", "CHANGES", "PATCHES", "FROM"),
        [
            (
                row.name,
                f"{row.state}{', forced' if row.forced else ''}",
                at,
                _what(row),
                len(row.ids),
                row.file,
            )
            for row, at in zip(rows, since, strict=True)
        ],
    )


@update.command("remove", cls=Command)
def remove(
    name: Name,
    update_name: Annotated[str, Argument(metavar="UPDATE", help="Its name, as 'update list' tells.")],
    moment: Moment = 10.0,
    force: Forced = False,
    image: ImageFile = None,
    wait: Wait = 10.0,
    as_json: AsJson = False,
) -> None:
    """Take an update out of a running kernel, at a moment in which nobody is inside its code.

    \b
    Examples:
      kgdbpatch update remove linux fix
    """
    with attach(name, image, wait) as kernel:
        with progress(f"removing {update_name}") as say:
            row = kernel.updates.remove(update_name, wait=moment, force=force, progress=say)
        pause = kernel.updates.pause_us
    if as_json:
        json_line({**asdict(row), "pause_us": pause})
        return
    tell(f"{row.name} is out; the guest stood still for {pause / 1000:.1f} ms")


def export(
    name: Name,
    update_name: Annotated[
        str | None,
        Argument(metavar="UPDATE", show_default=False, help="This one alone; else all, and all patches."),
    ] = None,
    output: Annotated[
        Path | None, Option("--output", "-o", metavar="FILE.kup", help="Write it there, not to the output.")
    ] = None,
    image: ImageFile = None,
    wait: Wait = 10.0,
) -> None:
    """Write the updates and patches of a running kernel as a file, to apply them after a boot or elsewhere.

    Where they are applied again, all addresses are found anew, and code that is not as it was is refused.
    The guest itself holds its updates; what patches were made from is known on the host that applied them.
    C is compiled anew for another kernel.

    \b
    Examples:
      kgdbpatch export linux > set.kup
      kgdbpatch export linux fix -o fix.kup
      kgdbpatch apply other set.kup
    """
    with attach(name, image, wait) as kernel:
        data = kernel.updates.export(_left_out) if update_name is None else kernel.updates.file(update_name)
    if output is not None:
        output.write_bytes(data)
    elif sys.stdout.isatty():
        raise Misuse("an update is no text: give --output, or lead the output into a file")
    else:
        sys.stdout.buffer.write(data)


def _left_out(line: str) -> None:
    tell(f"kgdbpatch: warning: left out: {line}", err=True)


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
