"""The command that lists a kernel's symbols, and what other lists of names share with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument

from kgdbpatch.cli import completion
from kgdbpatch.cli.options import AsJson, ImageOrName, attach
from kgdbpatch.cli.output import hexadecimal, json_line, table, tell
from kgdbpatch.cli.waiting import progress
from kgdbpatch.errors import Misuse

if TYPE_CHECKING:
    from kgdbpatch.image.named import NamedPlace

__all__ = ["list_places", "symbols"]


def list_places(rows: Iterable[NamedPlace], as_json: bool, *, kinds: bool = True) -> None:
    """Print named places, one a line; with ``kinds`` what each is."""
    if as_json:
        for row in rows:
            json_line(_record(row, kinds=kinds))
        return
    columns = ("ADDRESS", "SIZE", *(["KIND"] if kinds else []), "SECTION", "NAME")
    shown = [
        (
            hexadecimal(row.address),
            row.size,
            *([row.kind] if kinds else []),
            row.section or "-",
            " ".join(row.names) + "?" * row.guessed,
        )
        for row in rows
    ]
    table(columns, shown)


def _record(row: NamedPlace, *, kinds: bool) -> dict[str, Any]:
    known = asdict(row)
    known["symbol"] = row.name
    if not known.pop("guessed"):
        kind = known.pop("kind")
        return {**known, "kind": kind} if kinds else known
    kind = known.pop("kind")
    return {**known, **({"kind": kind} if kinds else {}), "guessed": True}


def symbols(
    image: ImageOrName,
    pattern: Annotated[
        str | None,
        Argument(
            metavar="[GLOB|ADDRESS]",
            help="Only names like this: 'udp_*'; or what is at this address: 0xc0123456.",
            autocompletion=completion.functions,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List a kernel's symbols, functions and data alike, by address; or say what is at an address.

    Modules that are loaded are listed behind the kernel; 'module:glob' are those of one. A size of 0 is
    not told by the file. What an address is in is told with how far on it is, of a running guest the
    code of patches too.

    \b
    Examples:
      kgdbpatch symbols linux 'udp_*'
      kgdbpatch symbols darwin --json
      kgdbpatch symbols linux 0xc0123456
      kgdbpatch symbols vmlinux 'jiffies*'
    """
    from kgdbpatch.image.named import all_symbols, matching_symbols, symbol_at
    from kgdbpatch.image.spelling import address_of
    from kgdbpatch.kernel import catalog

    if pattern is not None and (address_of(pattern.strip()) is not None or _is_place(pattern)):
        if catalog.is_file(image):
            loaded = catalog.open_image(image)
            at = loaded.resolve(pattern)
            _tell_of(at, symbol_at(loaded, at), loaded.symbolize, image, as_json)
            return
        with attach(image, None, dead=True) as kernel:
            at = kernel.places.address(pattern)
            _tell_of(at, kernel.places.at(at), kernel.places.name, image, as_json)
        return
    with progress(f"reading {image}"):
        loaded = catalog.open_image(image)
        rows = all_symbols(loaded) if pattern is None else matching_symbols(loaded, pattern)
    list_places(rows, as_json)


def _is_place(text: str) -> bool:
    from kgdbpatch.image.spelling import is_glob

    return "+0x" in text and not is_glob(text)


def _tell_of(at: int, row: NamedPlace | None, name: Callable[[int], str], where: str, as_json: bool) -> None:
    if row is None:
        raise Misuse(f"{hexadecimal(at)} is in nothing that {where} has a name for")
    if as_json:
        record = {**_record(row, kinds=True), "asked": at, "offset": at - row.address}
        json_line({**record, "asked_symbol": name(at)})
        return
    size = f"{row.size} bytes " if row.size else ""
    section = f" of {row.section}" if row.section else ""
    tell(f"{hexadecimal(at)} {name(at)}: {row.kind}{section}, {size}at {hexadecimal(row.address)}")
