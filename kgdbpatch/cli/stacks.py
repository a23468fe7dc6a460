"""The command that samples the stacks of a running kernel, and draws them as a flame graph."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from kgdbpatch.cli.ending import ended_kindly
from kgdbpatch.cli.options import AsJson, ImageFile, Name, Wait, attach
from kgdbpatch.cli.output import json_line, tell
from kgdbpatch.cli.profiles import Seconds
from kgdbpatch.cli.waiting import progress
from kgdbpatch.errors import Misuse

if TYPE_CHECKING:
    from kgdbpatch.kernel.stack_samples import StackSamples

__all__ = ["stacks"]


def stacks(
    name: Name,
    seconds: Seconds = None,
    hz: Annotated[
        float, Option("--hz", metavar="N", min=0.1, max=1000, help="How many samples a second.")
    ] = 99.0,
    folded: Annotated[
        Path | None, Option("--folded", metavar="FILE", help="Write a line for each stack to this file.")
    ] = None,
    svg: Annotated[
        Path | None, Option("--svg", metavar="FILE", help="Draw a flame graph into this file.")
    ] = None,
    image: ImageFile = None,
    wait: Wait = 10.0,
    as_json: AsJson = False,
) -> None:
    """Sample the stacks of all CPUs: a line for each stack, or a flame graph.

    A stack is its functions from the outermost on, below its thread's name, and how often it was seen. No
    debug information is needed, nothing is put into the guest: it is stopped for each sample, for some
    milliseconds in which its own time stands still; the end tells for how long. Where a sample takes longer
    than --hz wants, there are fewer. Open the SVG in a browser: titles tell shares, a click zooms.

    \b
    Examples:
      kgdbpatch stacks linux --seconds 10 --svg flames.svg
      kgdbpatch stacks darwin --seconds 5 --hz 49 --folded stacks.txt
      kgdbpatch stacks linux --seconds 5 --json
    """
    from kgdbpatch.kernel.stack_samples import StackSamples
    from kgdbpatch.profiles.flame import flame_graph
    from kgdbpatch.profiles.folded import folded_lines

    for file in (folded, svg):
        if file is not None and str(file) != "-" and not file.absolute().parent.is_dir():
            raise Misuse(f"there is no directory {file.absolute().parent}")
    with attach(name, image, wait) as kernel, ended_kindly():
        samples = StackSamples(kernel, hz=hz)
        with progress("taking samples"), suppress(KeyboardInterrupt):
            samples.gather(seconds)
    rows = samples.rows()
    lines = [*folded_lines(rows)]
    if svg is not None:
        _write(svg, flame_graph(rows, f"{name}: {samples.stops} samples in {samples.seconds:.1f} s"))
    if folded is not None:
        _write(folded, "".join(f"{line}\n" for line in lines))
    if as_json:
        for row in rows:
            json_line(asdict(row))
    elif svg is None and folded is None:
        for line in lines:
            tell(line)
    _tell_cost(samples)


def _write(file: Path, text: str) -> None:
    if str(file) == "-":
        typer.echo(text, nl=False)
        sys.stdout.flush()
        return
    try:
        file.write_text(text, encoding="utf-8", errors="replace")
    except OSError as error:
        raise Misuse(f"{file}: {error.strerror}") from error


def _tell_cost(samples: StackSamples) -> None:
    if not samples.stops:
        return
    each, share = 1e3 * samples.stopped / samples.stops, 100 * samples.stopped / max(samples.seconds, 1e-9)
    rate = samples.stops / max(samples.seconds, 1e-9)
    told = f"{samples.stops} samples, {rate:.0f} a second; the guest stood still for {each:.1f} ms each"
    tell(f"kgdbpatch: {told}, {share:.0f}% of the time", err=True)
