"""Run the benchmarks named on the command line: ``python -m kgdbpatch.bench analyze``."""

from __future__ import annotations

import sys
from collections.abc import Callable

from kgdbpatch.bench import analyze

__all__ = ["BENCHMARKS", "main"]

BENCHMARKS: dict[str, Callable[[], int]] = {"analyze": analyze.run}


def main(arguments: list[str]) -> int:
    """Run benchmarks by name, ``all`` of them by default; return the worst exit code."""
    wanted = list(BENCHMARKS) if arguments in ([], ["all"]) else arguments
    unknown = [name for name in wanted if name not in BENCHMARKS]
    if unknown:
        print(f"bench: no benchmark '{unknown[0]}'; there are: {' '.join(BENCHMARKS)}, all", file=sys.stderr)
        return 2
    return max(BENCHMARKS[name]() for name in wanted)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
