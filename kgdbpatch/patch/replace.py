"""Plan that a function of the payload takes the place of one of the kernel's, or of one call's callee.

The splice leads to the new function itself, so a call costs one branch more than the kernel built with it.
What the kernel had stays callable: the payload's ``kgp_original`` is filled with what was at the site.
"""

from __future__ import annotations

from collections.abc import Callable

from kgdbpatch.image import Function
from kgdbpatch.isa import encode
from kgdbpatch.isa.decode import Kind, decode
from kgdbpatch.isa.registers import names
from kgdbpatch.patch.displace import immovable, onward, plain
from kgdbpatch.patch.entrance import entrance
from kgdbpatch.patch.layout import Layout, planned
from kgdbpatch.patch.payload import Payload, Replacement
from kgdbpatch.patch.planned import Place, Plan, code_of
from kgdbpatch.patch.site import Site

__all__ = ["as_entry", "plan_replacement", "redirects"]


def redirects(site: Site) -> bool:
    """Tell whether a replacement at ``site`` is of what is called there, not of its function.

    A conditional call is none, its condition would be lost, nor one of the next word (it asks where it is).
    """
    target = encode.branch_target(site.address, site.instruction.word)
    linked = site.instruction.kind is Kind.CALL and target not in (None, site.address + 4)
    return linked and not site.entered


def plan_replacement(site: Site, payload: Payload, new: Replacement, place: Place) -> Plan:
    """Plan that ``payload`` runs instead of the function that ``site`` enters, or of the one called there.

    Raises `Refused` by the rules ``entry``, ``springboard``, ``reach``, and the displaced instruction's.
    """
    calls = redirects(site)
    if not site.entered and not calls:
        raise site.refused(
            "entry", f"{site.at} is neither a function's entry nor a call: there is nothing to replace"
        )
    if site.loops and not calls:
        raise site.refused(
            "entry", f"a loop of the function comes back to its entry {site.at}: it would enter the new one"
        )
    if place.trap is not None:
        raise site.refused("trap", f"a trap at {site.at} cannot lead to another function")
    forced = list(site.forced)
    objection = immovable(site)
    if objection is not None:
        if not site.force:
            raise objection
        forced.append(objection.rule)
    layout = Layout.of(place.body, 0, payload)
    # what a caller has in registers at a call is no more than its arguments
    abi = site.abi
    scratch = frozenset(names(abi.volatile & ~abi.args & abi.indirect)) | {"r0", "ctr"}
    way = entrance(site._replace(free=scratch), place._replace(body=new.entry(place.body)), linked=calls)
    at = place.body + new.original
    if calls and site.under is not None:
        raise site.refused("patched", f"the call at {site.at} has a patch already: it cannot be redirected")
    words = [] if calls else list(site.prefix)
    words += _callee(site, at) if calls else onward(site, at + 4 * len(words))
    tail = new.original // 4 + (0 if calls else len(site.prefix))
    if len(words) > new.room:
        raise site.refused("reach", f"what is at {site.at} takes {len(words)} instructions elsewhere")
    filled = code_of(words)
    code = layout.code(())
    return planned(
        site,
        payload,
        way,
        layout,
        code[: new.original] + filled + code[new.original + len(filled) :],
        words=tail + len(words),
        tail=tail,
        forced=forced,
        replaces=True,
    )


def _callee(site: Site, at: int) -> list[int]:
    """Return words at ``at`` that go where the call of ``site`` led; LR is the new caller's."""
    to = site.instruction.target
    assert to is not None
    if encode.branch_reaches(at, to):
        return [encode.b(at, to)]
    if encode.absolute_reaches(to):
        return [encode.ba(to)]
    return [*encode.load_address(12, to), encode.mtctr(12), encode.bctr()]


def as_entry(site: Site, function: Function, model: str, words: Callable[[int, int], list[int]]) -> Site:
    """Return a site with what is to be known of ``function``'s entry to have another take its place.

    ``words(address, count)`` are the running kernel's.
    """
    code = words(function.address, function.size // 4)
    decoded = [decode(word, function.address + 4 * index, model) for index, word in enumerate(code)]
    before = decoded[: (site.address - function.address) // 4] if site.entered else []
    branches = (Kind.JUMP, Kind.BRANCH)
    return site._replace(
        prefix=tuple(one.word for one in before if plain(one)),
        loops=any(one.target == site.address for one in decoded if one.kind in branches),
    )
