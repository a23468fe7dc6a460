"""Analyse one kernel file from scratch in a process of its own, and print what that took as JSON.

Usage: python bench/whole.py FILE [SHARE] (the share of its functions, 1 by default).
No cache is read or written.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time

from kgdbpatch import interpreter

__all__ = ["main"]


def main() -> None:
    """Analyse and print; seconds count from the start of `main`, the caller's from process start."""
    with tempfile.TemporaryDirectory() as empty:
        os.environ["KGDBPATCH_CACHE"] = empty
        steps = _analyze(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 1.0)
    print(json.dumps(steps))


def _analyze(path: str, share: float) -> dict[str, float]:
    clock, steps = time.perf_counter(), dict[str, float]()

    def step(name: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        steps[name] = round(now - clock, 4)
        clock = now

    from kgdbpatch.analysis.call_order import call_edges
    from kgdbpatch.analysis.interprocedural import analyze_program
    from kgdbpatch.analysis.statistics import figures
    from kgdbpatch.kernel import analyses, catalog

    step("import")
    image = catalog.open_image(path)
    step("parse file")
    functions = image.functions.spans()
    functions = functions[: max(1, round(share * len(functions)))]
    last = functions[-1][0] + functions[-1][1]
    sections = [
        (section.address, image.words(section)[: max(0, last - section.address) // 4])
        for section in image.code_sections()
    ]
    data = [(section.address, section.data) for section in image.sections]
    implicit, reads = analyses.implicit_edges(image), analyses.rewritten_reads(image)
    step("functions")
    liveness = analyze_program(sections, functions, image.abi, data, implicit, reads)
    step("blocks, flow, summaries")
    found = liveness.solve()
    step("liveness")
    calls = call_edges(liveness.blocks)
    counted = figures(liveness.program, liveness.indirect)
    step("call graph, figures")
    steps |= {
        "functions": counted.functions,
        "words": counted.instructions,
        "blocks": counted.blocks,
        "call edges": len(calls[0]),
        "functions that return": len(found.exits) - int(liveness.summaries.no_return.sum()),
        "peak MB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }
    return steps


if __name__ == "__main__":
    interpreter.set_up()  # as a command does
    main()
    interpreter.leave(0)
