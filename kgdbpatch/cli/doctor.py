"""The command doctor: what is installed of what kgdbpatch needs."""

from __future__ import annotations

from dataclasses import asdict

from kgdbpatch.cli.options import AsJson
from kgdbpatch.cli.output import json_line, table
from kgdbpatch.errors import MissingTool

__all__ = ["doctor"]


def doctor(as_json: AsJson = False) -> None:
    """Say which programs kgdbpatch finds, what each is for, and how to install what is missing.

    Exits with 4 when one is missing without which no guest can be booted.

    \b
    Example:
      kgdbpatch doctor
    """
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
            print(f"to install what is missing, on Debian: apt-get install {' '.join(packages)}")
    missing = [one for one in found if one.required and not one.ok]
    if missing:
        told = ", ".join(f"{one.name} {one.problem}" for one in missing)
        raise MissingTool(f"{told} (Debian: {' '.join(sorted({one.package for one in missing}))})")
