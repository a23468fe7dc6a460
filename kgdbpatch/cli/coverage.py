"""Commands about what of a kernel is executed: coverage start, report, reset, stop."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from kgdbpatch.cli.options import AsJson, ImageFile, Name, Wait, attach, matching
from kgdbpatch.cli.output import json_line, table, tell
from kgdbpatch.cli.waiting import progress
from kgdbpatch.cli.words import Command, Group
from kgdbpatch.errors import Misuse

if TYPE_CHECKING:
    from kgdbpatch.coverage.run import Run
    from kgdbpatch.kernel.coverage_files import CoverageFiles
    from kgdbpatch.kernel.kernel import Kernel

__all__ = ["coverage"]

coverage = typer.Typer(
    cls=Group, no_args_is_help=True, help="Which blocks, functions and source lines of a kernel are run."
)

_BY = ("function", "file", "line")


def _told(run: Run, more: dict[str, Any], as_json: bool) -> None:
    watched, ran = int(run.watched.sum()), int(run.ran.sum())
    if as_json:
        unseen = [{"rule": rule, "blocks": count} for rule, count in run.unseen().items()]
        about = {"blocks": len(run.start), "watched": watched, "ran": ran, "exact": run.exact}
        json_line({**about, "not_watched": unseen, "modules": list(run.modules), **more})
        return
    from kgdbpatch.coverage.report import share
    from kgdbpatch.coverage.run import OWN

    tell(f"blocks: {len(run.start):,}; watched: {watched:,}; run: {ran:,} ({share(ran, watched)})")
    for rule, count in run.unseen().items():
        tell(
            f"not watched: {count:,} by rule '{rule}'"
            if rule not in OWN
            else f"not watched: {count:,}, {rule}"
        )
    for module in run.modules:
        tell(f"not watched: module {module}")


@coverage.command("start", cls=Command)
def start(
    name: Name,
    functions: Annotated[
        list[str] | None, Argument(metavar="[FUNC|GLOB]...", help="Only these functions; else all.")
    ] = None,
    exact: Annotated[
        bool, Option("--exact", help="Count each time a block is run, which costs as long as it lasts.")
    ] = False,
    image: ImageFile = None,
    wait: Wait = 10.0,
    as_json: AsJson = False,
) -> None:
    """Watch which basic blocks of a running kernel are executed.

    Each block gets a trap, which the guest itself takes out when it is hit for the first time, so that the
    kernel is at full speed again soon. With --exact each block gets a counter instead, which stays.
    It lasts until 'coverage stop'; other patches may be put in and taken out meanwhile.

    \b
    Examples:
      kgdbpatch coverage start linux
      kgdbpatch coverage start linux 'tcp_*' --exact
    """
    with attach(name, image, wait) as kernel:
        chosen = None
        if functions:
            image_of = kernel.coverage.image
            chosen = [one.address for pattern in functions for one in matching(image_of, pattern)]
        began = time.monotonic()
        with progress("looking at all blocks") as say:
            run = kernel.coverage.start(chosen, exact=exact, progress=say)
        seconds = round(time.monotonic() - began, 1)
        _told(run, {"seconds": seconds, "pause_us": round(kernel.coverage.pause * 1e6)}, as_json)
        if not as_json:
            tell(f"took {seconds} s; the guest stood still for {kernel.coverage.pause:.1f} s")


@coverage.command("reset", cls=Command)
def reset(name: Name, image: ImageFile = None, wait: Wait = 10.0, as_json: AsJson = False) -> None:
    """Take all blocks as not run, and watch them again.

    \b
    Example:
      kgdbpatch coverage reset linux
    """
    with attach(name, image, wait) as kernel, progress("beginning anew"):
        run = kernel.coverage.reset()
    _told(run, {}, as_json)


@coverage.command("stop", cls=Command)
def stop(name: Name, image: ImageFile = None, wait: Wait = 10.0, as_json: AsJson = False) -> None:
    """Take everything out; what was not reported is forgotten.

    \b
    Example:
      kgdbpatch coverage stop linux
    """
    with attach(name, image, wait) as kernel, progress("taking it out"):
        kernel.coverage.stop()
    if as_json:
        json_line({"name": name, "stopped": True})
    else:
        tell(f"no coverage is taken of '{name}' any more")


@coverage.command("report", cls=Command)
def report(
    name: Name,
    by: Annotated[
        str | None, Option(metavar="function|file|line", help="A row for each; else the sums alone.")
    ] = None,
    lcov: Annotated[Path | None, Option(metavar="FILE", help="Write lines in the format of lcov.")] = None,
    html: Annotated[Path | None, Option(metavar="DIR", help="Write HTML pages there.")] = None,
    source: Annotated[
        Path | None, Option(metavar="DIR", help="Where the kernel's source is, where not as it was built.")
    ] = None,
    symbols: Annotated[Path | None, Option(metavar="FILE", help="The file with debug information.")] = None,
    save: Annotated[Path | None, Option(metavar="FILE", help="Keep this for --against.")] = None,
    against: Annotated[
        Path | None, Option(metavar="FILE", help="Tell what is run now that was not then, and the reverse.")
    ] = None,
    image: ImageFile = None,
    as_json: AsJson = False,
) -> None:
    """Tell what was executed since 'coverage start'; the guest is not stopped.

    A block, function or line is run, not run, or not watched: of those nothing is known, and they are
    counted with the reason. Lines, also of inlined functions, need debug information of the kernel.
    What a dead kernel has run is told as well; exits with 4 then.

    \b
    Examples:
      kgdbpatch coverage report linux
      kgdbpatch coverage report linux --by function --json
      kgdbpatch coverage report linux --lcov linux.info --html pages --source ~/linux-6.1
      kgdbpatch coverage report linux --save before.cov
      kgdbpatch coverage report linux --against before.cov
    """
    if by is not None and by not in _BY:
        raise Misuse(f"--by is {', '.join(_BY[:-1])} or {_BY[-1]}, not '{by}'")
    with attach(name, image, dead=True) as kernel:
        run = kernel.coverage.run()
        if save is not None:
            from kgdbpatch.coverage.run import save as keep

            keep(save, run)
        if against is not None:
            _changes(kernel, run, against, as_json)
            kernel.assure_alive()
            return
        from kgdbpatch.kernel.coverage_files import CoverageFiles

        files = CoverageFiles(kernel, run, symbols=symbols, source=source)
        with progress("reading source lines"):
            if lcov is not None:
                files.write_lcov(lcov)
            if html is not None:
                files.write_html(html)
        if by is None:
            _told(run, {}, as_json)
        else:
            _by(files, by, as_json)
        kernel.assure_alive()


def _changes(kernel: Kernel, run: Run, against: Path, as_json: bool) -> None:
    from kgdbpatch.coverage.report import changed_rows
    from kgdbpatch.coverage.run import load

    rows = changed_rows(run, load(against), kernel.coverage.functions())
    shown = [(one.function, one.new, one.gone) for one in rows]
    _rows(("FUNCTION", "NEWLY RUN", "NO LONGER RUN"), shown, rows, as_json)


def _by(files: CoverageFiles, by: str, as_json: bool) -> None:
    from kgdbpatch.coverage.report import file_rows, share

    if by == "function":
        heads = ("FUNCTION", "BLOCKS RUN", "WATCHED", "NOT WATCHED", "SHARE")
        functions = [
            (one.function, one.ran, one.watched, one.blocks - one.watched, share(one.ran, one.watched))
            for one in files.functions
        ]
        _rows(heads, functions, files.functions, as_json)
    elif by == "file":
        heads = ("FILE", "LINES RUN", "NOT RUN", "NOT WATCHED", "SHARE")
        rows = file_rows(files.lines)
        shown = [
            (one.file, one.ran, one.not_run, one.not_watched, share(one.ran, one.ran + one.not_run))
            for one in rows
        ]
        _rows(heads, shown, rows, as_json)
    else:
        lines = [
            (f"{one.file}:{one.line}", one.state, "" if one.hits is None else one.hits) for one in files.lines
        ]
        _rows(("LINE", "STATE", "HITS"), lines, files.lines, as_json)


def _rows(
    heads: Sequence[str], shown: Sequence[Sequence[object]], rows: Sequence[Any], as_json: bool
) -> None:
    if as_json:
        for row in rows:
            json_line(asdict(row))
    else:
        table(heads, [tuple(map(str, row)) for row in shown])
