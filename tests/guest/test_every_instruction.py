"""A counting patch at every instruction of a kernel at once, under its workload."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from kgdbpatch.kernel import Kernel

RUN = 60  # seconds


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_every_instruction_of_darwin(kernel: Kernel):
    functions = [function for function in kernel.image.functions if function.section == "__TEXT,__text"]
    sites = sorted({site for function in functions for site in range(function.address, function.end, 4)})
    batch = kernel.patch_all(sites, count=True)
    refused = Counter(refusal.rule for refusal in batch.refused)
    print(f"\n{len(sites)} instructions: {len(batch.patches)} spliced in {batch.pause_us / 1000:.0f} ms")
    for rule, count in refused.most_common():
        print(f"  refused, {rule}: {count} ({count / len(sites):.2%})")
    assert kernel.verify().ok
    assert sum(refused.values()) < 0.01 * len(sites)
    until = time.monotonic() + RUN
    while time.monotonic() < until:
        line = kernel.log.wait(r"selfcheck: \d+ ok|panic", deadline=60, since=kernel.log.position())
        assert line.message.rstrip().endswith(" 0 bad")
    assert sum(1 for patch in kernel.list() if patch.hits) > 0.5 * len(sites)
    kernel.remove_all()
    verified = kernel.verify()
    assert (verified.ok, verified.patched) == (True, 0)
