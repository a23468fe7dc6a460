"""The command that shows which bits of a word of flags a kernel uses: bits."""

from __future__ import annotations

from typing import Annotated

from typer import Argument

from kgdbpatch.cli import completion
from kgdbpatch.cli.options import AsJson, ImageFile, Name, attach
from kgdbpatch.cli.output import hexadecimal, json_line, table, tell
from kgdbpatch.cli.waiting import progress

__all__ = ["bits"]


def bits(
    name: Name,
    variable: Annotated[
        str,
        Argument(metavar="VARIABLE", help="A word of 32 flags.", autocompletion=completion.functions),
    ],
    image: ImageFile = None,
    as_json: AsJson = False,
) -> None:
    """Show which bits of a word of flags the running kernel tests, sets and clears, and which are free.

    The word's address is followed through registers and into the functions that get it; functions that add
    what they are given are followed up to their callers. Where something is not understood, no bit counts as
    free. Modules are not looked at, nor is what is done behind an address that is stored (told as kept).

    \b
    Examples:
      kgdbpatch bits darwin netisr
      kgdbpatch bits darwin netisr --json
    """
    with attach(name, image) as kernel:
        with progress(f"looking for uses of {variable}"):
            address = kernel.resolve_name(variable)
            found = kernel.bits(address)
        symbolize = kernel.image.symbolize
        if as_json:
            routines = {bit: [symbolize(one) for one in each] for bit, each in found.routines.items()}
            masks = {"tests": found.tests, "sets": found.sets, "clears": found.clears}
            places = {"unknown": sorted(found.unknown), "kept": sorted(found.kept)}
            named = {f"{key}_symbols": [symbolize(at) for at in each] for key, each in places.items()}
            known = {"variable": variable, "address": address, "symbol": symbolize(address)}
            json_line({**known, **masks, "free": found.free, "routines": routines, **places, **named})
            return
        used = found.tests | found.sets | found.clears
        marks = ((found.tests, "tested"), (found.sets, "set"), (found.clears, "cleared"))
        rows = [
            (
                bit,
                hexadecimal(1 << bit),
                " ".join(word for mask, word in marks if mask >> bit & 1),
                ", ".join(symbolize(one) for one in found.routines.get(bit, ())) or "-",
            )
            for bit in range(32)
            if used >> bit & 1
        ]
        table(("BIT", "MASK", "USES", "CALLS"), rows)
        tell(f"free: {' '.join(map(str, found.free)) or 'none'}")
        for word, each in (("not understood", found.unknown), ("the address is kept", found.kept)):
            if each:
                tell(f"{word}: {', '.join(symbolize(at) for at in sorted(each))}")
