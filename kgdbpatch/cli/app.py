"""The typer application: which function is which command."""

from __future__ import annotations

from typing import Annotated

import typer

import kgdbpatch
from kgdbpatch.cli import checks, console, doctor, graphs, guests, inspect, patches

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"kgdbpatch {kgdbpatch.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show where an error comes from (or set KGDBPATCH_DEBUG=1).")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Change a PowerPC kernel while it runs in qemu-system-ppc.

    Put code at any instruction, watch the syslog, take the code out again.

    \b
    Examples:
      kgdbpatch boot darwin
      kgdbpatch apply darwin run_netisr --c examples/packet_counter.c
      kgdbpatch log darwin -f
      kgdbpatch remove darwin --all
      kgdbpatch shutdown darwin

    \b
    Exit codes: 0 done, 1 internal error, 2 usage, 3 refused as unsafe,
    4 target lost or timed out, 5 bad image or patch file.
    """


app.command()(guests.boot)
app.command()(guests.ps)
app.command()(guests.shutdown)
app.add_typer(guests.image, name="image")
app.command()(inspect.functions)
app.command()(inspect.analyze)
app.command()(inspect.live)
app.command("print")(inspect.evaluate)
app.command("eval", hidden=True)(inspect.evaluate)
app.command()(graphs.cfg)
app.command()(graphs.callgraph)
app.command()(checks.check)
app.command()(patches.apply)
app.command("list")(patches.list_patches)
app.command()(patches.remove)
app.command()(patches.verify)
app.command()(guests.log)
app.command()(console.console)
app.command()(doctor.doctor)
