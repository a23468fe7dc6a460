"""The command doctor: what is installed of what kgdbpatch needs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from typer import Argument

from kgdbpatch.cli import completion
from kgdbpatch.cli.options import AsJson
from kgdbpatch.cli.output import json_line, table, tell
from kgdbpatch.errors import MissingTool

__all__ = ["doctor"]


def doctor(
    name: Annotated[
        str | None,
        Argument(
            metavar="NAME", help="A running guest.", show_default=False, autocompletion=completion.guests
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say which programs kgdbpatch finds, what each is for, and how to install what is missing.

    With NAME: what works on that guest, what does not, and why. Without, exits with 4 when a program is
    missing without which no guest can be booted.

    \b
    Examples:
      kgdbpatch doctor
      kgdbpatch doctor darwin --json
    """
    if name is not None:
        _guest(name, as_json)
        return
    from kgdbpatch.kernel.doctor import examine

    found = examine()
    if as_json:
        for one in found:
            json_line({**asdict(one), "ok": one.ok, "install": one.install})
    else:
        rows = [(one.name, one.version if one.ok else f"{one.problem}: {one.needed}") for one in found]
        table(("PROGRAM", "FOUND"), rows)
        packages = sorted({one.package for one in found if not one.ok})
        if packages:
            tell(f"to install what is missing, on Debian: apt-get install {' '.join(packages)}")
    missing = [one for one in found if one.required and not one.ok]
    if missing:
        told = ", ".join(f"{one.name} {one.problem}" for one in missing)
        raise MissingTool(f"{told} (Debian: {' '.join(sorted({one.package for one in missing}))})")


def _guest(name: str, as_json: bool) -> None:
    from kgdbpatch.cli.waiting import progress
    from kgdbpatch.kernel.guest_doctor import examine

    with progress(f"examining {name}"):
        found = examine(name)
    if as_json:
        for one in found:
            json_line({"name": name, **asdict(one)})
        return
    rows = [
        (one.topic, "yes" if one.works else "no", "; ".join(filter(None, (one.found, one.reason))))
        for one in found
    ]
    table(("WHAT", "WORKS", "BY OR WHY NOT"), rows)
