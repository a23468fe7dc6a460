"""Commands that look at kernels: functions, analyze, live, print."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from kgdbpatch.cli.options import AsJson, ImageFile, ImageOrName, Name, Site, Wait, attach, matching, naming
from kgdbpatch.cli.output import hexadecimal, json_line, tell, with_symbols
from kgdbpatch.cli.symbols import list_places
from kgdbpatch.cli.waiting import progress

if TYPE_CHECKING:
    from kgdbpatch.image import Image
    from kgdbpatch.kernel import LiveRegisters
    from kgdbpatch.patch.site_checker import SiteChecker

__all__ = ["analyze", "evaluate", "functions", "live"]

_REGISTERS = {
    f"{kind}{n}" for kind, count in (("r", 32), ("f", 32), ("v", 32), ("cr", 8)) for n in range(count)
}
_REGISTERS |= {"lr", "ctr", "ca", "ov", "so", "fpscr", "vscr", "vrsave"}


def functions(
    image: ImageOrName,
    pattern: Annotated[
        str | None, Argument(metavar="[PATTERN]", help="Only names like this: 'udp_*'.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List a kernel's functions, by address.

    Where a file names none they are guessed and marked "?"; of memory:NAME they are what the
    running Linux itself knows, or the Darwin kernel's and those of the extensions it has loaded.
    Kernel extensions (Mach-O object files) are read too.

    \b
    Examples:
      kgdbpatch functions darwin
      kgdbpatch functions memory:linux
      kgdbpatch functions memory:darwin '*filter*'
      kgdbpatch functions vmlinux 'udp_*' --json
    """
    from kgdbpatch.image.named import NamedPlace
    from kgdbpatch.kernel import catalog

    with progress(f"reading {image}"):
        loaded = catalog.open_image(image)
        found = loaded.all_functions() if pattern is None else matching(loaded, pattern)
    places = (
        NamedPlace(f.name, f.address, f.size, f.aliases, f.section, "function", f.guessed) for f in found
    )
    list_places(places, as_json, kinds=False)


def analyze(image: ImageOrName, as_json: AsJson = False) -> None:
    """Count functions, instructions, blocks, edges and calls.

    \b
    Example:
      kgdbpatch analyze linux --json
    """
    from kgdbpatch.kernel import analyses, catalog

    with progress(f"analysing {image}"):
        loaded = catalog.open_image(image)
        start = time.perf_counter()
        counted = asdict(analyses.analyze(loaded))
    seconds = round(time.perf_counter() - start, 4)
    figures = {"format": loaded.format, **counted, "seconds": seconds}
    if as_json:
        json_line(figures)
        return
    for key, value in figures.items():
        tell(f"{key.replace('_', ' '):<18} {value:,}" if isinstance(value, int) else f"{key:<18} {value}")


def live(image: ImageOrName, site: Site, file: ImageFile = None, as_json: AsJson = False) -> None:
    """Say which registers are live at a site and why, and which are free.

    Free registers are those that a patch may use without saving them. A register is live because
    of an instruction that may read it; a call or a return stands for what lies behind it.

    \b
    Examples:
      kgdbpatch live darwin run_netisr+0x18
      kgdbpatch live ./vmlinux udp_sendmsg --json
    """
    from kgdbpatch.kernel import catalog, offline

    if catalog.is_file(image):
        with progress(f"analysing {image}"):
            loaded = catalog.open_image(image)
            with naming(loaded):
                site_checker = offline.site_checker(loaded)
                found = site_checker.live(loaded.resolve(site))
        _show_live(found, site_checker, loaded, as_json)
        return
    with attach(image, file) as kernel:
        with progress(f"analysing {kernel.image.path.name}"):
            found = kernel.live(site)
        _show_live(found, kernel.site_checker, kernel.image, as_json)


def _show_live(found: LiveRegisters, site_checker: SiteChecker, image: Image, as_json: bool) -> None:
    # the privileged state is always live and nobody's to use
    found = replace(
        found,
        live=tuple(name for name in found.live if name in _REGISTERS),
        free=tuple(name for name in found.free if name in _REGISTERS),
    )
    readers = site_checker.why(found.address)
    why = {name: place for name in found.live if (place := readers.get(name)) is not None}
    if as_json:
        because = {
            name: {"address": place, "instruction": site_checker.instruction(place).written_for(image.model)}
            for name, place in why.items()
        }
        json_line(with_symbols({**asdict(found), "why": because}, image.symbolize))
        return
    tell(f"{hexadecimal(found.address)} {image.symbolize(found.address)}: {found.instruction}")
    tell(f"live: {' '.join(found.live) or '-'}")
    for place in sorted(set(why.values()), key=lambda at: (at < found.address, at)):
        names = " ".join(name for name in found.live if why.get(name) == place)
        text = site_checker.instruction(place).written_for(image.model)
        tell(f"  {hexadecimal(place)} {image.symbolize(place)}: {text}  ({names})")
    tell(f"free: {' '.join(found.free) or '-'}")


def evaluate(
    name: Name,
    expressions: Annotated[list[str], Argument(metavar="EXPRESSION...", help="In C, as GDB reads it.")],
    symbols: Annotated[
        Path | None, Option(metavar="FILE", help="The file with the kernel's debug information.")
    ] = None,
    file: ImageFile = None,
    wait: Wait = 10.0,
    as_json: AsJson = False,
) -> None:
    """Print what C expressions are in a kernel, which may be dead.

    Needs debug information (DWARF) in the kernel's file, in FILE.elf or FILE.debug beside it, or in
    the one given. The guest is stopped once. Nothing is changed: no assignment, no call. Local variables
    are those of the function that the CPU is in. Addresses in patches are told by name.

    \b
    Examples:
      kgdbpatch print darwin version
      kgdbpatch print linux --symbols vmlinux.debug jiffies '*init_task.mm' --json
    """
    with attach(name, file, wait, dead=True) as kernel:
        with kernel.inspected(symbols) as inspection:
            values = [inspection.evaluate(expression) for expression in expressions]
        places = kernel.places
        values = [replace(value, text=places.annotated(value.text)) for value in values]
    for value in values:
        if as_json:
            json_line(asdict(value))
        else:
            tell(f"{value.expression} = {value.text}", keep="\n\t")
