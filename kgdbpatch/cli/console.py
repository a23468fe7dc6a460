"""The command console: talk with a guest as at its keyboard and screen."""

from __future__ import annotations

import os
import re
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Annotated

from typer import Option

from kgdbpatch.cli.options import Name, Wait
from kgdbpatch.cli.output import tell
from kgdbpatch.errors import Misuse, TargetBusy

__all__ = ["console"]

_LEAVE = b"\x1d"  # Ctrl-]
_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def console(
    name: Name,
    until: Annotated[str | None, Option(metavar="REGEX", help="End at a printed line that matches.")] = None,
    timeout: Annotated[float, Option(min=0, metavar="S", help="How long the guest has to answer.")] = 10.0,
    wait: Wait = 1.0,
) -> None:
    """Talk with a guest on its console; Ctrl-] leaves, and the guest goes on.

    Every key but Ctrl-] goes to the guest, Ctrl-C too. One at a time types; any number may watch by
    'kgdbpatch log NAME --console -f', and nothing is missing there.

    When the input is no terminal its lines are typed, and what the guest prints is printed: until a line
    matches --until (exit code 4 when none comes within --timeout seconds of the last line typed), else
    until the guest has printed nothing for half a second.

    \b
    Examples:
      kgdbpatch console linux
      echo 'read /proc/version' | kgdbpatch console linux --until '(done|failed) read'
      kgdbpatch console linux < commands > answers
    """
    from kgdbpatch.kernel import catalog
    from kgdbpatch.vm.relay import Relay

    interactive = sys.stdin is not None and sys.stdin.isatty()
    if interactive and until is not None:
        raise Misuse("--until goes with input that is no terminal")
    try:
        wanted = None if until is None else re.compile(until)
    except re.error as error:
        raise Misuse(f"--until '{until}': {error}") from error
    opened = catalog.open_console(name)
    sys.stdout.flush()
    with _watchable(name), opened.held(wait):
        relay = Relay(opened, 0, sys.stdout.fileno())
        if not interactive:
            relay.feed(wanted, timeout)
            return
        tell(f"kgdbpatch: the console of '{name}'; Ctrl-] leaves", err=True, flush=True)
        try:
            with _raw(0):
                relay.talk(_LEAVE)
        finally:
            tell(err=True)  # the guest's last line may have no end
        tell(f"kgdbpatch: left '{name}', which goes on", err=True)


@contextmanager
def _watchable(name: str) -> Iterator[None]:
    """Have a refusal say what may be done all the same."""
    try:
        yield
    except TargetBusy as error:
        error.add_note(f"to watch only: kgdbpatch log {name} --console -f")
        raise


@contextmanager
def _raw(terminal: int) -> Iterator[None]:
    """Have each key passed on as it is; whatever ends this puts the terminal back, a signal too."""
    before = termios.tcgetattr(terminal)

    def restore() -> None:
        with suppress(termios.error):  # it is gone
            termios.tcsetattr(terminal, termios.TCSANOW, before)

    def end(number: int, _: FrameType | None) -> None:
        restore()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def go_on(_: int, __: FrameType | None) -> None:
        tty.setraw(terminal, termios.TCSANOW)  # the shell has put its own mode back while we were stopped

    handlers = {**dict.fromkeys(_ENDING, end), signal.SIGCONT: go_on}
    replaced = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        tty.setraw(terminal, termios.TCSANOW)
        yield
    finally:
        restore()
        for number, handler in replaced.items():
            signal.signal(number, handler)
