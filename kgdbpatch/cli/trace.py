"""The command that traces a running kernel by a program of one line, or of a file."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from kgdbpatch.cli.options import AsJson, ImageFile, Name, Wait, attach, matching
from kgdbpatch.cli.output import json_line, tell
from kgdbpatch.cli.waiting import progress
from kgdbpatch.cli.words import Command
from kgdbpatch.errors import BadPatch, Misuse
from kgdbpatch.results import MapRow, TraceEvent
from kgdbpatch.tracing.stacks import Stack

if TYPE_CHECKING:
    from kgdbpatch.kernel import Kernel

__all__ = ["trace"]


class _WithArrows(Command):
    """A command whose argument may begin with ``->``, which is no option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words of the command line."""
        return super().parse_args(ctx, [f" {word}" if word.startswith("->") else word for word in args])


_BAR = 40  # letters of a histogram's longest bar


def trace(
    name: Name,
    program: Annotated[
        str | None, Argument(show_default=False, help="The program; see below. Or --file, or --list.")
    ] = None,
    file: Annotated[
        Path | None, Option("--file", "-f", metavar="FILE", help="Read the program from this file.")
    ] = None,
    seconds: Annotated[
        float | None, Option("--for", metavar="SECONDS", min=0, help="End after so long; else by Ctrl-C.")
    ] = None,
    listed: Annotated[
        str | None,
        Option("--list", "-l", metavar="GLOB", help="List functions, with parameters; or lines: 'mem.c:*'."),
    ] = None,
    show_c: Annotated[
        bool, Option("--show-c", help="Print the C that the program becomes, and put nothing in.")
    ] = False,
    slots: Annotated[
        int, Option("--events", metavar="N", min=128, max=1 << 16, help="How many a CPU's ring holds.")
    ] = 4096,
    entries: Annotated[
        int, Option("--keys", metavar="N", min=1, max=1 << 16, help="How many keys a map has room for.")
    ] = 1024,
    image: ImageFile = None,
    wait: Wait = 10.0,
    as_json: AsJson = False,
) -> None:
    """Watch a running kernel: count, print, sum and draw histograms at any of its functions.

    A program has probes, each with an action: FUNCTION { count() }. A FUNCTION may be a glob, func+0x18,
    func:return, ->func (each call of it), or FILE.c:120, a line of source. FUNCTION if CONDITION { … } acts
    only then. Parameters are known by name where the kernel has debug information, else named:
    udp_sendmsg(sk, msg, len), or arg0 to arg7.

    \b
    Values     comm pid tid curtask cpu nsecs func site caller, retval (of :return), kernel variables;
               stack, stack(N): 8, or N up to 16, frames, the innermost first, to be printed or a key;
               p->member, p[3], *p, (struct sock *)p, sizeof(struct sock), C's operators, str(p), ksym(p)
    Actions    print(value, …), printf("%d %s\\n", value, …), stop, if (…) { … } else { … }
    Maps       @name[key, …] = count(), sum(v), avg(v), min(v), max(v), hist(v), lhist(v, least, most, step);
               @name[key] = v, += v, ++ ; @name[key] is read as a value; delete(@name[key]);
               count() alone is @ = count(). Maps are printed at the end.
    every 1s   { print(@); clear(@); stop }

    All runs as machine code in the guest, which is not stopped to read what it gathers; memory that is not
    the kernel's own reads as 0. At the end, or when this command is ended, all is taken out again.

    \b
    Examples:
      kgdbpatch trace linux 'udp_sendmsg if len > 1000 { printf("%d %s\\n", len, comm) }'
      kgdbpatch trace linux 'udp_* { @[func] = count() }' --for 5
      kgdbpatch trace linux 'kfree { @[caller] = count() } every 1s { print(@); clear(@) }'
      kgdbpatch trace linux 'vfs_read:return { @bytes = hist(retval) }' --json
      kgdbpatch trace darwin 'strlen(s) { @[str(s)] = count() }'
      kgdbpatch trace linux '__kmalloc { @[stack(5)] = count() }' --for 5
      kgdbpatch trace linux 'drivers/char/mem.c:700 { print(comm, stack) }'
      kgdbpatch trace linux -l 'udp_*'
      kgdbpatch trace linux -l 'drivers/char/mem.c:*'
    """
    if listed is not None:
        with attach(name, image, wait) as kernel:
            _list(kernel, listed, as_json)
        return
    if (program is None) == (file is None):
        raise Misuse("give a program, or --file, or --list (see 'kgdbpatch trace --help')")
    text = _read(file) if file is not None else str(program)
    if slots & (slots - 1):
        raise Misuse(f"--events is a power of two: {1 << slots.bit_length()}, not {slots}")
    from kgdbpatch.kernel.tracing import Trace

    with attach(name, image, wait) as kernel:
        tracing = Trace(kernel, text, slots=slots, entries=entries)
        if show_c:
            for line in chain.from_iterable(c.splitlines() for c in tracing.c_texts()):
                tell(line)
            return
        with _ended_kindly():
            try:
                with progress("putting the probes in") as say:
                    tracing.start(say)
                _told_refusals(tracing.refused)
                with suppress(KeyboardInterrupt):
                    tracing.run(lambda one: _show(one, as_json), seconds)
                _show_maps(tracing.maps(), as_json)
                if tracing.unread:
                    told = f"{tracing.unread} times memory that is not the kernel's own was read as 0"
                    tell(f"kgdbpatch: warning: {told}", err=True)
                if tracing.lost:
                    tell(f"kgdbpatch: warning: {tracing.lost} events were lost: try --events", err=True)
            finally:
                tracing.stop()


def _read(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadPatch(f"{file}: {getattr(error, 'strerror', None) or error}") from error


@contextmanager
def _ended_kindly() -> Iterator[None]:
    """Have SIGTERM and SIGHUP end this as Ctrl-C does: what was put in is taken out; `nohup` is heeded."""
    ended = (signal.SIGTERM, signal.SIGHUP)
    numbers = [number for number in ended if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _told_refusals(refused: list[Any]) -> None:
    rules: dict[str, list[Any]] = {}
    for one in refused:
        rules.setdefault(one.rule, []).append(one)
    for rule, group in rules.items():
        tell(f"kgdbpatch: left out: {len(group)} by rule '{rule}': {group[0]}", err=True)


def _list(kernel: Kernel, pattern: str, as_json: bool) -> None:
    from kgdbpatch.kernel.trace_facts import types_of
    from kgdbpatch.kernel.trace_lines import is_line

    if is_line(pattern):
        _list_lines(kernel, pattern, as_json)
        return
    types = types_of(kernel)
    known = set() if types is None else {*types.index["function"]}
    for function in matching(kernel.image, pattern):
        plain = function.name.removeprefix(kernel.image.symbol_prefix)
        text = types.declaration(plain) if types is not None and plain in known else f"{function.name}(…)"
        if as_json:
            json_line({"name": function.name, "address": function.address, "prototype": text})
        else:
            tell(text)


def _list_lines(kernel: Kernel, pattern: str, as_json: bool) -> None:
    from kgdbpatch.kernel.trace_lines import listed_lines

    found = listed_lines(kernel.image, pattern)
    for (file, line), places in groupby(found, key=lambda one: (one.file, one.line)):
        if as_json:
            for one in places:
                json_line(asdict(one))
        else:
            tell(f"{file}:{line}  {', '.join(one.symbol for one in places)}")


def _show(one: TraceEvent | MapRow, as_json: bool) -> None:
    if as_json:
        json_line(asdict(one))
    elif isinstance(one, MapRow):
        _show_maps([one], as_json)
    elif one.event == "printf":
        typer.echo(one.text, nl=not one.text.endswith("\n"))
    else:
        _tell_values("", one.values, " ", "")
    sys.stdout.flush()


def _tell_values(before: str, values: Sequence[object], between: str, behind: str) -> None:
    """Print values in a line, but each frame of a stack in one of its own."""
    line, joint = before, ""
    for value in values:
        if isinstance(value, Stack):
            tell(line)
            for frame in value:
                tell(f"    {frame}")
            line, joint = "", ""
        else:
            line, joint = f"{line}{joint}{value}", between
    if line + behind:
        tell(line + behind)


def _show_maps(rows: list[MapRow], as_json: bool) -> None:
    if as_json:
        for row in rows:
            json_line(asdict(row))
        return
    for name, group in groupby(rows, key=lambda row: row.map):
        lost = 0
        for row in group:
            lost = row.lost
            value = f"{row.value:.1f}" if isinstance(row.value, float) else row.value
            shown = ":" if row.buckets else f": {value}"
            if row.key:
                _tell_values(f"{name}[", row.key, ", ", f"]{shown}")
            else:
                tell(name + shown)
            if row.buckets:
                _draw(row)
        if lost:
            tell(f"kgdbpatch: warning: {name} had no room for {lost} values: try --keys", err=True)


def _draw(row: MapRow) -> None:
    """Print a histogram, with the empty buckets between others."""
    bounds = [(low, high, count) for low, high, count in row.buckets]
    most = max(count for _, _, count in bounds)
    labels = [f"[{'…' if low is None else low}, {'…' if high is None else high})" for low, high, _ in bounds]
    width = max(map(len, labels))
    digits = len(str(most))
    for label, (_, _, count) in zip(labels, bounds, strict=True):
        tell(f"{label:<{width}}  {count:>{digits}} |{'█' * round(_BAR * count / most):<{_BAR}}|")


trace.command_class = _WithArrows  # type: ignore[attr-defined]
