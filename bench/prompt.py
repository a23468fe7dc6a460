"""``scripts/bench prompt``: what commands take, beside the start of a Python with numpy and typer.

All take turns in one run, on a guest that runs, with warm caches (those of Python's byte code too).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from kgdbpatch.errors import TargetLost
from kgdbpatch.kernel import Kernel
from kgdbpatch.patch.request import PatchRequest

__all__ = ["measure", "report"]

_ROUNDS = 9
_BASE = "python -c 'import numpy, typer'"
_GOALS = {"list": 1.8, "check": 3.0, "apply --asm": 3.5, "apply --c": 4.5}  # times `_BASE`
_SITES, _PLANNED = 15_000, 6.0  # first instructions of functions, and seconds in which they are planned
_SITE = "udp_sendmsg"
_ASM = "mr 11,3\nxor 11,11,4\n"
_C = "static long seen;\nvoid probe(void *sk, void *message, long size) { seen += size; }\n"


def _timed(arguments: Sequence[str]) -> float:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise TargetLost(f"'{' '.join(arguments[1:])}' ends with {done.returncode}: {done.stderr.strip()}")
    return seconds


def _commands(name: str, directory: Path) -> dict[str, list[str]]:
    (directory / "payload.s").write_text(_ASM)
    (directory / "payload.c").write_text(_C)
    ours = {
        "list": ["list", name],
        "verify": ["verify", name],
        "ps": ["ps", name],
        "check": ["check", name, f"{_SITE}+0x10"],
        "apply --asm": ["apply", name, _SITE, "--asm", str(directory / "payload.s")],
        "apply --c": ["apply", name, _SITE, "--c", str(directory / "payload.c")],
    }
    program = str(Path(sys.executable).with_name("kgdbpatch"))
    python = [sys.executable, "-c", "import numpy, typer"]
    return {_BASE: python, **{what: [program, *arguments] for what, arguments in ours.items()}}


def _timings(kernel: Kernel, told: Callable[[str], None]) -> dict[str, float]:
    """Return the least seconds of each command; each patch is taken out again."""
    least: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as directory:
        commands = _commands(kernel.name, Path(directory))
        for number in range(_ROUNDS + 1):
            told(f"round {number} of {_ROUNDS}")
            for what, arguments in commands.items():
                seconds = _timed(arguments)
                if number:  # the first one warms the caches
                    least[what] = min(seconds, least.get(what, seconds))
                if what.startswith("apply"):
                    kernel.remove_all()
    return least


def _plan(name: str) -> tuple[int, float]:
    """Return how many sites were planned for counters, and the seconds that this took, nothing prepared."""
    with Kernel.attach(name) as kernel:
        sites = [*dict.fromkeys(address for address, _ in kernel.image.functions.spans())][:_SITES]
        start = time.perf_counter()
        planner = kernel._planner(kernel.header)
        payload = planner.payload(PatchRequest(count=True))
        planned, refused = planner.plan_sites((site, payload) for site in sites)
        return len(planned) + len(refused), time.perf_counter() - start


def _planned(name: str) -> tuple[int, float]:
    """Return what `_plan` does in a process of its own."""
    command = [sys.executable, __file__, name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    sites, seconds = json.loads(done.stdout)
    return sites, seconds


def measure(profile: str, told: Callable[[str], None]) -> tuple[dict[str, float], int, float]:
    """Boot a guest and measure; return the least seconds of each command, sites planned, seconds of that."""
    with Kernel.boot(profile, f"bench-prompt-{os.getpid()}", progress=told) as kernel:
        least = _timings(kernel, told)
        told("planning many patches")
        sites, seconds = min((_planned(kernel.name) for _ in range(3)), key=lambda pair: pair[1])
    return least, sites, seconds


def report(least: dict[str, float], sites: int, seconds: float, *, as_json: bool) -> int:
    """Print what was measured; return 1 when a goal is missed."""
    base = least[_BASE]
    missed = seconds > _PLANNED or any(least[what] > goal * base for what, goal in _GOALS.items())
    if as_json:
        rows = {
            what: {"seconds": s, "times": s / base, "goal": _GOALS.get(what)} for what, s in least.items()
        }
        print(json.dumps({"bench": "prompt", "commands": rows, "sites": sites, "plan_seconds": seconds}))
        return int(missed)
    print(f"prompt: linux, warm caches, the least of {_ROUNDS} rounds in turns")
    for what, took in least.items():
        goal = f" (goal: {_GOALS[what]:g})" if what in _GOALS else ""
        print(f"  {what:<32} {1000 * took:6.0f} ms  {took / base:5.2f} times the first{goal}")
    print(f"planning counters at {sites:,} sites    {seconds:6.2f} s (goal: {_PLANNED:g})")
    return int(missed)


if __name__ == "__main__":
    print(json.dumps(_plan(sys.argv[1])))
