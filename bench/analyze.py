"""``scripts/bench analyze``: the analysis of a whole kernel against printing it with objdump."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from bench.precision import precision
from kgdbpatch.kernel import analyses, catalog

__all__ = ["run"]

_WHOLE = Path(__file__).with_name("whole.py")
_ROUNDS = 5
_OBJDUMP = "powerpc-linux-gnu-objdump"
_GOAL_TIMES, _GOAL_MB = 1.6, 400.0
_SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)
_ANGR_SECONDS = 162  # measured once, for a Linux image of this size; it took 1.27 GB


def _timed(*command: str) -> tuple[float, str]:
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return time.perf_counter() - start, done.stdout


def _objdump(path: Path) -> float:
    start = time.perf_counter()
    with Path(os.devnull).open("w") as nowhere:
        subprocess.run([_OBJDUMP, "-d", str(path)], stdout=nowhere, check=True)
    return time.perf_counter() - start


def _whole(path: Path, share: float = 1.0) -> tuple[float, dict[str, float]]:
    seconds, out = _timed(sys.executable, str(_WHOLE), str(path), str(share))
    return seconds, json.loads(out)


def run(profile: str = "linux", *, as_json: bool = False) -> int:
    """Measure and print; return 0 when the goals are met, 1 otherwise."""
    path = catalog.image_path(profile)
    pairs = [(_objdump(path), *_whole(path)) for _ in range(_ROUNDS)]
    objdump = min(pair[0] for pair in pairs)
    seconds, steps = min((pair[1:] for pair in pairs), key=lambda pair: pair[0])
    times, memory = seconds / objdump, steps["peak MB"]
    points = [(share, min((_whole(path, share)[1] for _ in range(2)), key=_analysis)) for share in _SHARES]
    growth = [(share, int(part["words"]), _analysis(part)) for share, part in points]
    free = precision(analyses.liveness(catalog.open_image(str(path))))
    if as_json:
        found = {"objdump_seconds": objdump, "seconds": seconds, "times": times, "steps": steps}
        print(json.dumps({"bench": "analyze", **found, "growth": growth, "free": asdict(free)}))
    else:
        print(f"analyze: {path.name} ({path.stat().st_size / 1e6:.1f} MB), no cache, best of {_ROUNDS}")
        for name, value in steps.items():
            print(f"  {name:<26} {value:>12,}")
        print(f"objdump -d >/dev/null        {objdump:.2f} s")
        print(f"kgdbpatch, process and all   {seconds:.2f} s = {times:.2f} times that (goal: {_GOAL_TIMES})")
        print(f"memory                       {memory:.0f} MB (goal: {_GOAL_MB:.0f})")
        print(f"angr's CFGFast, once         {_ANGR_SECONDS} s, {_ANGR_SECONDS / seconds:.0f} times as long")
        print("share of functions, analysis alone (seconds without import and parsing):")
        longest = max(point[2] for point in growth)
        for share, words, took in growth:
            bar = "#" * round(50 * took / longest)
            print(f"  {share:>4.0%} {words:>10,} words {took:6.2f} s {took / words * 1e6:5.2f} us/word {bar}")
        print(f"free general registers       {free.free:.2f} ({free.free_by_convention:.2f} by convention)")
        print(f"two free and LR or CTR       {free.roomy:.1%} of sites ({free.roomy_by_convention:.1%})")
    return 0 if times <= _GOAL_TIMES and memory <= _GOAL_MB else 1


def _analysis(steps: dict[str, float]) -> float:
    names = ("blocks, flow, summaries", "liveness", "call graph, figures")
    return sum(steps[name] for name in names)
