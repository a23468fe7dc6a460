"""The command that shows a running guest on the whole terminal: log, patches, rates, health."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from typer import Option

from kgdbpatch.cli.options import ImageFile, Name, Wait, attach
from kgdbpatch.errors import Misuse

__all__ = ["dash"]


def dash(
    name: Name,
    interval: Annotated[
        float, Option("--interval", metavar="S", min=0.1, help="Seconds from one look to the next.")
    ] = 0.5,
    image: ImageFile = None,
    wait: Wait = 10.0,
) -> None:
    """Show a running guest on the whole terminal: its log, patches with their hits, rates, health.

    The guest is not stopped for it, and nothing of it is changed but what you ask for by a key and then
    confirm. Keys: q ends it, p pauses the guest or lets it go on, r takes the chosen patch out, / shows only
    the lines of the log that match, Tab goes from the patches to the log, arrows move there, ? tells this.
    A guest that is dead, paused, or held by another debugger is shown as such; when it ends, so does this,
    with exit code 4.

    \b
    Examples:
      kgdbpatch dash darwin
      kgdbpatch dash linux --interval 2
    """
    streams = (sys.stdin, sys.stdout, sys.stderr)  # the last is the one that textual draws on
    terminal = all(stream is not None and stream.isatty() for stream in streams)
    if not terminal or os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        raise Misuse("dash needs a terminal; list, log and doctor tell the same")
    with attach(name, image, wait, dead=True) as kernel:
        from kgdbpatch.cli.dash_app import DashApp  # on use: textual takes a while to import
        from kgdbpatch.kernel.dashboard import Dashboard

        app = DashApp(Dashboard(kernel), name, image, interval=interval, wait=wait)
        with _silenced():
            app.run(mouse=False)
        if app.ended_by is not None:
            raise app.ended_by
        if app.return_code:
            raise typer.Exit(app.return_code)


@contextmanager
def _silenced() -> Iterator[None]:
    """Have nothing logged meanwhile: it would be written over the picture."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
