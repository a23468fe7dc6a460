"""The typer application: which function is which command."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Annotated

import typer
from typer import Option

import kgdbpatch
from kgdbpatch.cli.output import tell
from kgdbpatch.cli.words import Command, Group

__all__ = ["application", "asked"]

# name: module of this package and what in it is the command, or the group of commands
_COMMANDS = {
    "boot": "guests.boot",
    "attach": "attach.attach",
    "detach": "attach.detach",
    "ps": "guests.ps",
    "shutdown": "guests.shutdown",
    "image": "guests.image",
    "recipe": "recipes.recipe",
    "functions": "inspect.functions",
    "symbols": "symbols.symbols",
    "analyze": "inspect.analyze",
    "live": "inspect.live",
    "type": "types.type_command",
    "print": "inspect.evaluate",
    "read": "memory.read",
    "write": "memory.write",
    "disasm": "disassembly.disasm",
    "eval": "inspect.evaluate",
    "threads": "frames.threads",
    "bt": "frames.bt",
    "pause": "pausing.pause",
    "resume": "pausing.resume",
    "snapshot": "snapshots.snapshot",
    "regs": "frames.regs",
    "cfg": "graphs.cfg",
    "callgraph": "callgraphs.callgraph",
    "bits": "bits.bits",
    "check": "checks.check",
    "apply": "patches.apply",
    "trace": "trace.trace",
    "callers": "profiles.callers",
    "latency": "profiles.latency",
    "top": "top.top",
    "graph": "graph.graph",
    "timers": "timers.timers",
    "why-slow": "bottleneck.why_slow",
    "stacks": "stacks.stacks",
    "coverage": "coverage.coverage",
    "call": "calls.call",
    "get": "variables.get",
    "set": "variables.set_command",
    "list": "patches.list_patches",
    "remove": "patches.remove",
    "verify": "patches.verify",
    "update": "updates.update",
    "export": "updates.export",
    "log": "guests.log",
    "console": "console.console",
    "gdb": "debugger.gdb",
    "dash": "dash.dash",
    "doctor": "doctor.doctor",
}
_HIDDEN = {"eval"}  # the older name


def asked(arguments: Sequence[str]) -> str | None:
    """Return the command that a command line names, None where it names none."""
    first = next((word for word in arguments if not word.startswith("-")), None)
    return first if first in _COMMANDS else None


def application(only: str | None = None) -> typer.Typer:
    """Return the application with all commands, or with that one: the others take time to make."""
    app = typer.Typer(
        cls=Group,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback()(_options)
    for name, place in _COMMANDS.items():
        if only in (None, name):
            module, attribute = place.split(".")
            what = getattr(import_module(f"kgdbpatch.cli.{module}"), attribute)
            if isinstance(what, typer.Typer):
                app.add_typer(what, name=name)
            else:
                app.command(name, cls=getattr(what, "command_class", Command), hidden=name in _HIDDEN)(what)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        tell(f"kgdbpatch {kgdbpatch.__version__}")
        raise typer.Exit


def _options(
    debug: Annotated[
        bool, Option("--debug", help="Show where an error comes from (or set KGDBPATCH_DEBUG=1).")
    ] = False,
    version: Annotated[
        bool, Option("--version", callback=_version, is_eager=True, help="Print the version.")
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
