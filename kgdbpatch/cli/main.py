"""The entry point: run a command and turn every error into one line and the right exit code."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import select
import sys
import traceback
from typing import Any

import typer

from kgdbpatch.cli.app import application, asked
from kgdbpatch.cli.output import json_line, printable, tell, with_symbols
from kgdbpatch.errors import KgdbPatchError

__all__ = ["main"]

_PROGRAM, _COMPLETE = "kgdbpatch", "_KGDBPATCH_COMPLETE"  # the latter is set by the shell's completion
_INTERNAL, _USAGE, _INTERRUPTED, _PIPE = 1, 2, 130, 141
# click's own classes, wherever this version of typer keeps them
_UsageError: type[Any] = typer.BadParameter.__mro__[1]


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run the command line and return its exit code."""
    debug = bool(os.environ.get("KGDBPATCH_DEBUG")) or "--debug" in arguments[:1]
    as_json = "--json" in arguments
    _log_to_stderr(debug)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files are bytes
    try:
        # not through click's own main: it takes any broken pipe, the debugger's too, for stdout's
        completing = _COMPLETE in os.environ
        command = typer.main.get_command(application(None if completing else asked(arguments)))
        if completing:
            command.main(arguments, _PROGRAM)  # answers the shell, and exits
        with command.make_context(_PROGRAM, list(arguments)) as context:
            command.invoke(context)
        sys.stdout.flush()
    except KgdbPatchError as error:
        return _fail(error, error.exit_code, debug, as_json)
    except _UsageError as error:
        return _usage(error, as_json)
    except typer.Exit as leaving:
        return leaving.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except BrokenPipeError as error:
        if _is_stdout_gone():
            return _PIPE
        return _fail(error, _INTERNAL, debug, as_json)
    except Exception as error:
        told = f"internal error: {type(error).__name__}: {error} ('kgdbpatch --debug …' shows where)"
        return _fail(error, _INTERNAL, debug, as_json, told)
    return 0


class _Printable(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Return the line for a record."""
        return printable(super().format(record), "\n\t")


def _log_to_stderr(debug: bool) -> None:
    """Print our own log lines; those of libraries are told by our errors, where they matter."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Printable("kgdbpatch: %(message)s"))
    logging.basicConfig(handlers=[handler], force=True)
    logging.getLogger().setLevel(logging.INFO if debug else logging.CRITICAL)
    logging.getLogger("kgdbpatch").setLevel(logging.DEBUG if debug else logging.WARNING)


def _say(text: str) -> None:
    shown = printable(text, "\n\t")
    tell(f"kgdbpatch: error: {' '.join(shown.split())}", err=True)


def _say_json(error: BaseException, text: str, code: int) -> None:
    """Print an error for programs."""
    record = {name: getattr(error, name, None) for name in ("rule", "address", "nearest")}
    symbolize = getattr(error, "symbolize", None) or (lambda address: f"0x{address:08x}")
    with contextlib.suppress(BrokenPipeError):
        json_line(with_symbols({"error": text, **record, "exit": code}, symbolize))


def _fail(error: BaseException, code: int, debug: bool, as_json: bool, text: str | None = None) -> int:
    if debug:
        traceback.print_exception(error)
    first, *more = [text] if text else (str(error) or type(error).__name__).split("\n")
    _say(first)
    if as_json:
        _say_json(error, " ".join(first.split()), code)
    for line in [*more, *getattr(error, "__notes__", ())]:  # a console's last words, a compiler's
        tell(f"  {line.strip()}", keep="\t", err=True)
    return code


def _usage(error: Any, as_json: bool) -> int:
    context = error.ctx
    if context is not None and type(error).__name__ == "NoArgsIsHelpError":
        print(context.get_help(), file=sys.stderr)
        return _USAGE
    path = context.command_path if context is not None else "kgdbpatch"
    text = f"{error.format_message().rstrip('.')} (see '{path} --help')"
    _say(text)
    if as_json:
        _say_json(error, " ".join(text.split()), _USAGE)
    return _USAGE


def _is_stdout_gone() -> bool:
    """Tell whether nobody reads our output any more; keep the interpreter from complaining, too."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    if not any(event & select.POLLERR for _, event in poll.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True
