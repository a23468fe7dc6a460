"""Check what ``every`` is to do: it runs outside of the guest."""

from __future__ import annotations

from kgdbpatch.tracing.parse import wrong
from kgdbpatch.tracing.plan import ADDITIVE, Gathered
from kgdbpatch.tracing.syntax import Call, Effect, Map, Program, Stop, Text

__all__ = ["check_every"]


def check_every(program: Program, gathered: Gathered) -> None:
    """Raise `Misuse` for what ``every`` cannot do: it runs here, not in the guest."""
    for every in program.every:
        for one in every.block:
            call = one.expression if isinstance(one, Effect) else None
            given = call.arguments[:1] if isinstance(call, Call) and len(call.arguments) == 1 else ()
            wanted = {"print": Map, "clear": Map, "printf": Text}
            kind = wanted.get(call.name) if isinstance(call, Call) else None
            if isinstance(one, Stop):
                continue
            if isinstance(call, Call) and kind is not None and given and isinstance(given[0], kind):
                if isinstance(given[0], Map):
                    _check_map(program.text, call, given[0], gathered)
                continue
            at = getattr(call, "at", program.text.find("every"))
            told = 'every … { } takes print(@map), clear(@map), printf("text") and stop'
            raise wrong(program.text, at, told)


def _check_map(text: str, call: Call, given: Map, gathered: Gathered) -> None:
    plan = gathered.maps.get(given.name)
    if plan is None:
        raise wrong(text, given.at, f"the program has no map {given.name}")
    if given.keys:
        raise wrong(text, given.at, f"{call.name} takes a whole map: {call.name}({given.name})")
    if call.name == "clear" and plan.kind not in ADDITIVE:
        told = f"{given.name} is {plan.kind}: only counts, sums and histograms can be cleared"
        raise wrong(text, given.at, told)
