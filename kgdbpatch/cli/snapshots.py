"""Commands about a guest's saved states: save, restore, list, delete."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from typer import Argument

from kgdbpatch.cli import completion
from kgdbpatch.cli.options import AsJson, ImageFile, Name, Wait, attach
from kgdbpatch.cli.output import clock, json_line, table, tell
from kgdbpatch.cli.waiting import progress
from kgdbpatch.cli.words import Command, Group

__all__ = ["snapshot"]

_MIB = 1 << 20

snapshot = typer.Typer(
    cls=Group, no_args_is_help=True, help="Save a guest's whole state, and put it back to that."
)

Tag = Annotated[
    str,
    Argument(metavar="TAG", help="What it is called.", autocompletion=completion.snapshots),
]


@snapshot.command("save", cls=Command)
def save(name: Name, tag: Tag, image: ImageFile = None, wait: Wait = 10.0, as_json: AsJson = False) -> None:
    """Save a guest's whole state: memory, devices, and the patches that stand.

    One of the same TAG is replaced. The states are gone when the guest is shut down.

    \b
    Examples:
      kgdbpatch snapshot save darwin before
      kgdbpatch snapshot save darwin before --json
    """
    with attach(name, image, wait) as kernel, progress(f"saving {tag}"):
        kernel.snapshot(tag)
        (row,) = (row for row in kernel.snapshots() if row.tag == tag)
    if as_json:
        json_line(asdict(row))
    else:
        tell(f"'{tag}' is saved: {row.size / _MIB:.0f} MiB, {_patches(row.patches)}")


@snapshot.command("restore", cls=Command)
def restore(
    name: Name, tag: Tag, image: ImageFile = None, wait: Wait = 10.0, as_json: AsJson = False
) -> None:
    """Put a guest back to a saved state; a dead one lives again.

    Patches are then what they were: 'list' and 'verify' tell of those that stood. A guest that was paused
    is paused afterwards; another one goes on.

    \b
    Example:
      kgdbpatch snapshot restore darwin before
    """
    with attach(name, image, wait, dead=True) as kernel, progress(f"restoring {tag}"):
        kernel.restore(tag, stay_paused=True)
        (row,) = (row for row in kernel.snapshots() if row.tag == tag)
        standing = len(kernel.records())
    if as_json:
        json_line(asdict(row))
    else:
        tell(f"'{name}' is as it was at '{tag}': {standing} patch{'es' * (standing != 1)}")


@snapshot.command("list", cls=Command)
def list_snapshots(name: Name, image: ImageFile = None, as_json: AsJson = False) -> None:
    """List a guest's saved states, oldest first.

    \b
    Example:
      kgdbpatch snapshot list darwin --json
    """
    with attach(name, image, dead=True) as kernel:
        rows = kernel.snapshots()
    if as_json:
        for row in rows:
            json_line(asdict(row))
        return
    shown = [
        (
            row.tag,
            clock(row.date),
            f"{row.size / _MIB:.0f} MiB",
            f"{row.uptime:.1f} s",
            _patches(row.patches),
        )
        for row in rows
    ]
    table(("TAG", "DATE", "SIZE", "UPTIME", "PATCHES"), shown)


@snapshot.command("delete", cls=Command)
def delete(name: Name, tag: Tag, image: ImageFile = None, wait: Wait = 10.0, as_json: AsJson = False) -> None:
    """Delete a saved state; the guest is not stopped.

    \b
    Example:
      kgdbpatch snapshot delete darwin before
    """
    with attach(name, image, wait, dead=True) as kernel:
        kernel.delete_snapshot(tag)
    if as_json:
        json_line({"tag": tag})
    else:
        tell(f"'{tag}' is deleted")


def _patches(ids: tuple[int, ...] | None) -> str:
    if ids is None:
        return "patches not known"
    most = 8
    told = ", ".join(map(str, ids[:most])) + (", …" if len(ids) > most else "")
    return f"patch{'es' * (len(ids) > 1)} {told}" if ids else "no patches"
