"""Commands about patches: apply, list, remove, verify."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from dataclasses import replace as replaced
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from kgdbpatch.cli.options import AsJson, ImageFile, Name, Site, Wait, attach, matching
from kgdbpatch.cli.output import clock, hexadecimal, json_line, table, tell, with_symbols
from kgdbpatch.cli.waiting import progress
from kgdbpatch.errors import ComponentDamaged, DeadKernel, Misuse, Refused
from kgdbpatch.image.spelling import is_glob

if TYPE_CHECKING:
    from kgdbpatch.image import Image
    from kgdbpatch.kernel import Kernel, Patch
    from kgdbpatch.patch.plan import Plan
from kgdbpatch.patch.override import Override
from kgdbpatch.patch.request import PatchRequest
from kgdbpatch.results import PatchState

_MOMENT = 10.0  # seconds, as 'update apply' has it
_NAMED = 5  # sites of a rule that are named
_TOLD = ("site", "entry", "springboard", "saved", "body_words", "forced", "guarded", "warnings")
_ENTRIES = {"branch": "direct branch", "springboard": "springboard", "trap": "trap"}

__all__ = ["apply", "list_patches", "remove", "show_applied", "verify"]


def _place(image: Image, address: int) -> str:
    return f"{image.symbolize(address)} ({hexadecimal(address)})"


def _override(value: str | None, times: int | None, every: int | None) -> Override | None:
    """Return what a function is to return, and when; None where that is not asked for."""
    if value is None:
        if times is not None or every is not None:
            raise Misuse("times and every go with --return")
        return None
    try:
        number = int(value, 0)
    except ValueError as error:
        raise Misuse(f"--return takes a number, not '{value}'") from error
    return Override(number, times, 1 if every is None else every)


def apply(
    name: Name,
    site: Site,
    asm: Annotated[Path | None, Option(metavar="FILE", help="Insert these instructions.")] = None,
    c: Annotated[
        list[Path] | None,
        Option(metavar="FILE", help="Call a function of this C file, object or archive; again for more."),
    ] = None,
    call: Annotated[str | None, Option(metavar="FUNC", help="Call a function of the kernel.")] = None,
    entry: Annotated[str | None, Option(metavar="FUNC", help="The function of the C file to call.")] = None,
    count: Annotated[
        bool, Option("--count", help="Count hits: of --asm too, or alone, with no code of yours.")
    ] = False,
    replace: Annotated[
        bool,
        Option("--replace", help="The C function takes the place of the one there, or called there."),
    ] = False,
    exit: Annotated[
        bool, Option("--exit", help="Run the C function, or count, where the function of the site returns.")
    ] = False,
    writes: Annotated[
        str | None, Option(metavar="REGS", help="Registers that the C file's function changes, as r3,cr0.")
    ] = None,
    override: Annotated[
        str | None, Option("--return", metavar="VALUE", help="Have the function return this at once.")
    ] = None,
    times: Annotated[
        int | None, Option(metavar="N", help="With --return: so many times, then no more.")
    ] = None,
    every: Annotated[int | None, Option(metavar="N", help="With --return: at every Nth call only.")] = None,
    include: Annotated[
        list[Path] | None, Option("--include", "-I", metavar="DIR", help="Where C finds headers.")
    ] = None,
    define: Annotated[
        list[str] | None, Option("--define", "-D", metavar="NAME[=VALUE]", help="A macro for C.")
    ] = None,
    compiler: Annotated[
        str | None, Option(metavar="gcc|clang", help="What compiles C: gcc where nothing is said.")
    ] = None,
    kbuild: Annotated[
        Path | None,
        Option(metavar="DIR", help="Compile C as this kernel build tree does, with its headers."),
    ] = None,
    force: Annotated[
        bool, Option("--force", help="Go against rules that you know better; see below.")
    ] = False,
    via: Annotated[
        str, Option(metavar="auto|trap|tails", help="How the site leads to the code: see below.")
    ] = "auto",
    dry_run: Annotated[
        bool, Option("--dry-run", help="Plan everything, write nothing into the guest.")
    ] = False,
    image: ImageFile = None,
    wait: Wait = 10.0,
    as_json: AsJson = False,
) -> None:
    """Put code at a site of the running kernel.

    The code runs before the instruction there. A C function gets the registers r3..r10 as they
    are: at a function's first instruction its parameters are that function's arguments.
    A C function whose parameter is a struct kgp_regs * (#include <kgdbpatch.h>) sees all registers, changes
    for the kernel those that --writes or KGP_WRITES names, and with kgp_return(VALUE) leaves the kernel's
    function. --return does that without any C: inject an error, skip a call.
    Assembler is GNU's. Names of the kernel may be used in both. A SITE with * ? or [ is a glob:
    the first instruction of every function of such a name, all in one stop of the guest.
    Functions of loaded modules are sites too: func, module:func or 'func [module]'.
    In place of a site there may be a file of updates (.kup): see 'kgdbpatch update apply --help'.

    --replace at a function's entry puts the C function in its place, at a call in that of the function
    called there; kgp_original is the old one. With --asm the instructions run
    instead of the one at the site, and what that one writes is theirs to write.

    --c may be given several times: C, objects and archives, linked as linkers do; the first file has the
    entry function. The C may include kgdbpatch/types.h, which has the kernel's structures and functions that
    it names; with --kbuild it includes the kernel's own headers.

    --exit at a function's entry runs the C function, whose parameter is a struct kgp_exit *, each time the
    function returns, with the arguments of its entry and its result, which --writes r3 lets it change;
    with --count 'list' tells entries, returns, calls under way and calls that never return.

    --force lifts the rules "reservation" (between lwarx and stwcx.), "fault table" (the kernel looks
    the address up), "trap" (also looked up), "rewritten" (the kernel rewrites the word itself), "data"
    (only where the word may well be code that no known way leads to), "signature" (of a function that is
    replaced), "mapping", "exception return" and, with --via tails on darwin, "untranslated" (exception code;
    nothing can be called there); 'list' tells of it.

    A site leads to the code by a branch, a springboard or, where neither will do, a trap. --via trap
    takes a trap anyway; --via tails a springboard in an unused tail of the exception vectors.

    \b
    Examples:
      kgdbpatch apply darwin run_netisr --c examples/packet_counter.c
      kgdbpatch apply linux udp_sendmsg --c examples/udp_probe.c --json
      kgdbpatch apply linux schedule+0x8 --asm count.s --dry-run
      kgdbpatch apply darwin run_netisr --call log_flush
      kgdbpatch apply linux 'udp_*' --count
      kgdbpatch apply linux udp_sendmsg --c mine.c --replace
      kgdbpatch apply linux udp_sendmsg --c probe.c --c helpers.o --c libmine.a -I include -D LIMIT=1400
      kgdbpatch apply linux udp_sendmsg --c probe.c --kbuild ~/linux-6.1
      kgdbpatch apply linux udp_sendmsg --exit --count
      kgdbpatch apply linux udp_sendmsg --return -12 --every 100 --times 3
    """
    if site.endswith(".kup"):
        if asm or c or call or count or override or dry_run:
            raise Misuse(f"{site} is an update: nothing else goes with it")
        from kgdbpatch.cli import updates

        updates.apply(name, Path(site), None, _MOMENT, force, image, wait, as_json)
        return
    try:
        chosen = _override(override, times, every)
        how = (include or (), define or (), compiler, kbuild)
        what = (asm, c or None, call, entry, count, via, force, writes, chosen, replace)
        request = PatchRequest(*what, *how, exit)
    except Misuse as error:  # fields are options here
        names = "|".join(field.name for field in fields(PatchRequest))
        told = re.sub(rf"\b({names})\b", r"--\1", str(error)).replace("--override", "--return")
        raise Misuse(f"{told} (see 'kgdbpatch apply --help')") from error
    with attach(name, image, wait) as kernel:
        if is_glob(site):
            if dry_run:
                raise Misuse("--dry-run goes with one site; 'kgdbpatch functions' lists what a glob names")
            _apply_all(kernel, site, request, as_json)
        elif dry_run:
            with progress(f"planning for {site}"):
                plan = kernel.plan(site, request)
            show_applied(kernel, plan, None, None, as_json)
        else:
            with progress(f"patching {site}"):
                done = kernel.patch(site, request)
            show_applied(kernel, done, done.id, done.pause_us, as_json)
            if not as_json:
                tell(f"the guest stood still for {done.pause_us / 1000:.1f} ms")


def _apply_all(kernel: Kernel, pattern: str, request: PatchRequest, as_json: bool) -> None:
    sites = [function.address for function in matching(kernel.image, pattern)]
    with progress(f"planning for {len(sites):,} sites") as say:
        batch = kernel.patch_all(sites, request, progress=say)
    for done in batch.patches if as_json else ():
        show_applied(kernel, done, done.id, done.pause_us, as_json)
    for line in _left_out(kernel, batch.refused):
        tell(f"kgdbpatch: left out: {line}", err=True)
    if not as_json:
        ids = [done.id for done in batch.patches]
        tell(f"{len(ids)} patches" + (f", {ids[0]} to {ids[-1]}" if ids else "") + " (see 'kgdbpatch list')")
        tell(f"left out: {len(batch.refused)}; the guest stood still for {batch.pause_us / 1000:.1f} ms")
    if not batch.patches:
        raise typer.Exit(Refused.exit_code)


def _left_out(kernel: Kernel, refusals: Sequence[Refused]) -> list[str]:
    """Return a line for each rule: how many sites it forbids, the first few of them, and why the first."""
    by_rule: dict[str, list[Refused]] = {}
    for refused in refusals:
        by_rule.setdefault(refused.rule, []).append(refused)
    lines, image = [], kernel.image
    for rule, group in sorted(by_rule.items(), key=lambda item: -len(item[1])):
        names = [image.symbolize(one.address) for one in group[:_NAMED] if one.address is not None]
        more = ", …" if len(group) > _NAMED else ""
        lines.append(f"{len(group)} by rule '{rule}' ({', '.join(names)}{more}): {group[0]}")
    return lines


def _symbolize(kernel: Kernel) -> Callable[[int], str]:
    """Return what names the kernel's addresses, and those of the patches' own code."""
    pieces, image = kernel.code_of_patches(), kernel.image

    def symbolize(address: int) -> str:
        for start, end, name in pieces:
            if start <= address < end:
                return f"{name}+0x{address - start:x}" if address > start else name
        return image.symbolize(address)

    return symbolize


def show_applied(
    kernel: Kernel, patch: Plan | Patch, patch_id: int | None, pause: int | None, as_json: bool
) -> None:
    """Print what `apply` tells of a patch, or, without an id, of a plan."""
    for warning in patch.warnings:
        tell(f"kgdbpatch: warning: {warning}", err=True)
    if as_json:
        record = {"id": patch_id, **{key: getattr(patch, key) for key in _TOLD}, "pause_us": pause}
        if patch_id is None and patch.springboard is not None:
            record["springboard_symbol"] = "springboard"
        json_line(with_symbols(record, _symbolize(kernel)))
        return
    what = "dry run: would be" if patch_id is None else f"patch {patch_id}"
    tell(f"{what} at {_place(kernel.image, patch.site)}, body at {hexadecimal(patch.body)}")
    through = _ENTRIES[patch.entry] + (f" at {hexadecimal(patch.springboard)}" if patch.springboard else "")
    tell(f"{through}; saved: {' '.join(patch.saved) or 'nothing'}; {patch.body_words} words")
    if patch.forced:
        tell(f"forced, against: {', '.join(patch.forced)}")
    if patch.guarded:
        tell("guarded: a thread inside the payload passes the site without running it again")


def _lost(patch: dict[str, Any]) -> dict[str, str]:
    """Return how to call the site of a patch whose module was unloaded: others may be there by now."""
    if patch["state"] != PatchState.UNLOADED:
        return {}
    return {"symbol": f"{hexadecimal(patch['site'])} [{patch['module']}]"}


def _unloaded(patch_id: int, module: str | None) -> str:
    told = f"patch {patch_id} went with its module: '{module}' was unloaded"
    return f"{told} ('kgdbpatch remove' gives its memory back)"


def _show(kernel: Kernel, patches: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        symbolize = _symbolize(kernel)
        for patch in patches:
            json_line({**with_symbols(patch, symbolize), **_lost(patch)})
        return
    known = kernel.image
    dated = any(p["since"] is not None for p in patches)
    table(
        ("ID", "SITE", "STATE", "ENTRY", "HITS", *(("SINCE", "FROM") if dated else ())),
        [
            (
                p["id"],
                _lost(p).get("symbol") or _place(known, p["site"]),
                p["state"] + ", forced" * bool(p["forced"]) + (f", of {p['update']}" if p["update"] else ""),
                p["entry"],
                "-" if p["hits"] is None else p["hits"],
                *(("-" if p["since"] is None else clock(p["since"]), p["file"] or "-") if dated else ()),
            )
            for p in patches
        ],
    )
    for patch in patches:
        if patch["state"] == PatchState.UNLOADED:
            tell(_unloaded(patch["id"], patch["module"]))
        if patch["skipped"]:
            tell(f"patch {patch['id']} was skipped {patch['skipped']} times: its thread was inside it")
        if patch["coverage"]:
            tell(f"patch {patch['id']} takes the coverage: {patch['coverage']} ('kgdbpatch coverage')")
        if patch["inside"] is not None:
            tell(
                f"patch {patch['id']}, calls: {patch['hits']} entered, {patch['exits']} returned, "
                f"{patch['inside']} under way, {patch['unreturned']} that never will return"
            )
        if patch["holds"]:
            tell(f"patch {patch['id']} keeps {', '.join(patch['holds'])} loaded: it uses names of that")
        if patch["lost"]:
            gone = ", ".join(patch["lost"])
            tell(f"patch {patch['id']} uses names of {gone}, which is loaded no more: take the patch out")
        for holder in patch["held_by"]:
            where = "" if holder["at"] is None else f" (stack word at {hexadecimal(holder['at'])})"
            tell(
                f"patch {patch['id']} is in use: {holder['by']} goes on at "
                f"{hexadecimal(holder['address'])}{where}"
            )


def list_patches(name: Name, image: ImageFile = None, as_json: AsJson = False) -> None:
    """List the guest's patches; the guest is not stopped, but where somebody seems not to leave one.

    A CPU or a thread that does not leave a patch is named; the guest may be stopped for a moment to see it.
    A dead kernel's patches are listed as well; exits with 4 then.

    \b
    Example:
      kgdbpatch list darwin --json
    """
    with attach(name, image, dead=True) as kernel:
        dead = None
        try:
            kernel.assure_alive()
        except DeadKernel as error:
            dead = error  # raised once all is printed; a look at the CPUs may wake a hanging kernel
        try:
            cpus = kernel.cpus_inside()
            rows = kernel.patch_table(calls=dead is None)
            patches = [replaced(p, held_by=(*p.held_by, *cpus.get(p.id, ()))) for p in rows]
        except ComponentDamaged as error:
            raise dead or error from error
        _show(kernel, [asdict(patch) for patch in patches], as_json)
        if dead is not None:
            raise dead


def remove(
    name: Name,
    ids: Annotated[list[int] | None, Argument(metavar="ID...", help="Patches, as listed.")] = None,
    everything: Annotated[bool, Option("--all", help="Take all patches out.")] = False,
    force: Annotated[
        bool, Option("--force", help="Drop the records of damaged patches; their sites are left alone.")
    ] = False,
    image: ImageFile = None,
    wait: Wait = 10.0,
    as_json: AsJson = False,
) -> None:
    """Take patches out.

    A patch that something may still run or return into is ``retired``: it is out, its memory is
    kept until it is removed again. One is damaged when its site holds neither its word nor the
    original one (something else has written there): it is left in, and the others are taken out.

    \b
    Examples:
      kgdbpatch remove darwin 1
      kgdbpatch remove darwin --all --json
    """
    if everything == bool(ids):
        raise Misuse("give the patches' ids, or --all (see 'kgdbpatch remove --help')")
    with attach(name, image, wait) as kernel:
        with progress("taking patches out"):
            done = kernel.take_out(None if everything else ids, force=force)
        _show(kernel, [asdict(patch) for patch in done.patches], as_json)
        if done.refused:
            for refused in done.refused[1:]:
                tell(f"kgdbpatch: left in: {refused}", err=True)
            raise done.refused[0]


def verify(name: Name, image: ImageFile = None, as_json: AsJson = False) -> None:
    """Compare the running text with its file and the patches.

    The guest is not stopped. Exits with 3 when they differ. What the kernel itself has rewritten of
    its own (jump labels, static calls, ftrace, feature fix-ups) is told by name and is no difference; so are
    patches whose module was unloaded.

    \b
    Example:
      kgdbpatch verify darwin
    """
    with attach(name, image) as kernel:
        with progress("comparing"):
            found = kernel.verify()
        if as_json:
            json_line(with_symbols(asdict(found), kernel.image.symbolize))
        elif found.ok:
            tell(f"the text is the image's; words patched: {found.patched}")
        else:
            known = kernel.image
            places = ", ".join(_place(known, at) for at in found.mismatched[:8])
            tell(f"{len(found.mismatched)} words differ: {places}")
        for change in () if as_json else found.kernel_changes:
            tell(f"{change.text} ({hexadecimal(change.address)})")
        for patch in () if as_json else found.unloaded:
            tell(_unloaded(patch.id, patch.module))
        if not found.ok:
            raise typer.Exit(Refused.exit_code)
