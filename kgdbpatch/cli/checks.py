"""The command check: whether code may be put at a site, of a running guest or of a file."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from kgdbpatch.cli.options import AsJson, ImageFile, ImageOrName, Site, attach, function_at, matching, naming
from kgdbpatch.cli.output import hexadecimal, json_line, table, tell
from kgdbpatch.cli.waiting import progress
from kgdbpatch.errors import Refused
from kgdbpatch.image.spelling import is_glob

if TYPE_CHECKING:
    from kgdbpatch.image import Image
    from kgdbpatch.kernel import Check
    from kgdbpatch.kernel.checks import Checker, Summary

__all__ = ["check"]


def check(
    image: ImageOrName,
    site: Site,
    file: ImageFile = None,
    count: Annotated[
        bool, Option("--count", help="Judge by a patch that only counts, not by one that calls.")
    ] = False,
    summary: Annotated[
        bool, Option("--summary", help="Judge every instruction; print shares refused, by rule.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say whether code may be put at a site, and what it costs; no guest is needed, a file will do.

    If it may not: why, and which site near it would do. Exits then with 3. A SITE with * ? or [ is a
    glob, as for 'apply': the first instruction of every function of such a name. With --summary every
    instruction of the functions is judged, those given up after boot left out.

    \b
    Examples:
      kgdbpatch check darwin run_netisr
      kgdbpatch check ./vmlinux udp_sendmsg+0x10 --json
      kgdbpatch check ./vmlinux '*' --summary --count
    """
    from kgdbpatch.kernel import catalog, offline

    with ExitStack() as closing:
        if catalog.is_file(image):
            with progress(f"reading {image}"):
                loaded = catalog.open_image(image)
                checker = offline.checker(loaded, count=count)
            closing.enter_context(naming(loaded))
        else:
            kernel = closing.enter_context(attach(image, file))
            loaded, checker = kernel.image, kernel.checker(count=count)
        if summary:
            _summary(loaded, checker, site, as_json)
            return
        named = [one.address for one in matching(loaded, site)] if is_glob(site) else None
        sites = named or [loaded.resolve(site)]
        good = False
        with progress(f"analysing {loaded.path.name}"):
            first = checker.check(sites[0])
        for address in sites:
            found = first if address == sites[0] else checker.check(address)
            good |= found.ok
            if as_json:
                json_line(asdict(found))
            elif named:
                _line(found)
            else:
                _show(found)
        if not good:
            raise typer.Exit(Refused.exit_code)


def _place(address: int, symbol: str) -> str:
    return f"{symbol} ({hexadecimal(address)})"


def _show(found: Check) -> None:
    if found.ok:
        ways = {"springboard": "through a springboard", "trap": "by a trap"}
        tell(f"{_place(found.site, found.symbol)}: yes, {ways.get(found.entry or '', 'by a direct branch')}")
        tell(f"saved: {' '.join(found.saved) or 'nothing'}; {found.body_words} words around the payload")
        return
    tell(f"{_place(found.site, found.symbol)}: no")
    tell(f"reason: {found.reason}")
    if found.nearest is not None and found.nearest_symbol is not None:
        tell(f"nearest site that would do: {_place(found.nearest, found.nearest_symbol)}")


def _line(found: Check) -> None:
    word = "yes" if found.ok else f"no, {found.rule}: {found.reason}"
    tell(f"{_place(found.site, found.symbol)}: {word}")


def _summary(image: Image, checker: Checker, site: str, as_json: bool) -> None:
    from kgdbpatch.kernel.checks import Summary

    functions = matching(image, site) if is_glob(site) else [function_at(image, site)]
    with progress(f"judging {image.path.name}") as say:
        found = checker.summary(functions, say)
    total = Summary()
    for part in found.values():
        total.merge(part)
    if as_json:
        sections = {name: _figures(part) for name, part in found.items()}
        json_line({"functions": len(functions), **_figures(total), "sections": sections})
        return
    rows = [
        row
        for name, part in (*found.items(), ("all", total))
        for row in (
            (name, "", part.sites, part.refused, f"{part.share:.2%}", ""),
            *(("", rule, "", s.refused, f"{s.share:.2%}", f"{s.symbol}") for rule, s in _rules(part)),
        )
    ]
    table(("SECTION", "RULE", "SITES", "REFUSED", "SHARE", "EXAMPLE"), rows)


def _rules(part: Summary) -> list[tuple[str, Any]]:
    return sorted(part.rules.items(), key=lambda item: -item[1].refused)


def _figures(part: Summary) -> dict[str, Any]:
    rules = {rule: asdict(share) for rule, share in _rules(part)}
    return {"sites": part.sites, "refused": part.refused, "share": round(part.share, 6), "rules": rules}
