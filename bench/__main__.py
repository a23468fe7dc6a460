"""``scripts/bench``: choose what is measured."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable

from bench import analyze, patch, prompt, trace
from bench.cost import measure
from bench.report import print_costs, print_costs_json
from kgdbpatch.cli.waiting import progress
from kgdbpatch.errors import KgdbPatchError

__all__ = ["main"]

_PROFILES = ("darwin", "linux")


def _cost(profiles: tuple[str, ...], as_json: bool) -> int:
    """Measure what a hit costs."""
    for number, profile in enumerate(profiles):
        with progress(f"measuring on {profile}") as told:
            costs = measure(profile, told)
        if number and not as_json:
            print()
        (print_costs_json if as_json else print_costs)(costs)
    return 0


def _analyze(profiles: tuple[str, ...], as_json: bool) -> int:
    """Measure the analysis of the whole Linux image; return 1 when it misses its goals."""
    return analyze.run(as_json=as_json) if "linux" in profiles else 0


def _patch(profiles: tuple[str, ...], as_json: bool) -> int:
    """Measure patches beside what they could cost at least; return 1 when one misses its goal."""
    worst = 0
    for profile in profiles:
        with progress(f"measuring on {profile}") as told:
            found = patch.measure(profile, told)
        worst = max(worst, patch.report(profile, found, as_json=as_json))
    return worst


def _prompt(profiles: tuple[str, ...], as_json: bool) -> int:
    """Measure commands at the prompt, on Linux; return 1 when one misses its goal."""
    if "linux" not in profiles:
        return 0
    with progress("measuring commands") as told:
        found = prompt.measure("linux", told)
    return prompt.report(*found, as_json=as_json)


def _trace(profiles: tuple[str, ...], as_json: bool) -> int:
    """Measure what an event of a trace costs."""
    for profile in profiles:
        with progress(f"measuring on {profile}") as told:
            found = trace.measure(profile, told)
        trace.report(profile, found, as_json=as_json)
    return 0


_BENCHES: dict[str, Callable[[tuple[str, ...], bool], int]] = {
    "cost": _cost,
    "patch": _patch,
    "analyze": _analyze,
    "prompt": _prompt,
    "trace": _trace,
}


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmarks asked for; return the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser("scripts/bench", description="Measure kgdbpatch on its guests.")
    parser.add_argument("what", nargs="*", help=f"{', '.join(_BENCHES)}; darwin, linux or all (all)")
    parser.add_argument("--json", action="store_true", help="print one object a line")
    asked = parser.parse_intermixed_args(given)
    unknown = [word for word in asked.what if word not in (*_BENCHES, *_PROFILES, "all")]
    if unknown:
        parser.error(f"nothing to measure is called '{unknown[0]}'")
    profiles = tuple(profile for profile in _PROFILES if profile in asked.what) or _PROFILES
    if "all" in asked.what:
        profiles = _PROFILES
    worst = 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # its guests end with it
    try:
        for name, bench in _BENCHES.items():
            if name in asked.what or not any(word in _BENCHES for word in asked.what):
                worst = max(worst, bench(profiles, asked.json))
    except KgdbPatchError as error:
        print(f"bench: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return worst


if __name__ == "__main__":
    sys.exit(main())
