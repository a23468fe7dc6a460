"""The paper's 4.2, whole: run_netisr calls what is registered, two packet types are added and taken out."""

from __future__ import annotations

import importlib.util
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kgdbpatch.errors import Refused
from kgdbpatch.kernel import Kernel

from .work import beat, empty

pytestmark = [pytest.mark.long, pytest.mark.kernel("darwin")]

# images/darwin/include/net.h
SERVED = {2: "ipintr", 18: "arpintr", 6: "nsintr", 28: "ip6intr"}
STATISTICS = re.compile(r"netisr: type 0x(\w+) on bit (\d+): (\d+) received, (\d+) served, 0 bad")


@pytest.fixture(scope="module")
def netisr() -> Any:
    """Return the example's Python, which tests do not have on their path."""
    path = Path(__file__).parents[2] / "examples" / "netisr" / "netisr.py"
    spec = importlib.util.spec_from_file_location("netisr_example", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def text(kernel: Kernel) -> list[bytes]:
    """Return all code as it is in memory, but for the vectors, whose handlers keep data there."""
    sections = [section for section in kernel.image.code_sections() if section.address >= 0x10000]
    return [kernel.qemu.ram.read(section.address, len(section.data)) for section in sections]


def test_which_bits_the_kernel_uses(kernel: Kernel) -> None:
    found = kernel.bits("netisr")
    named = {bit: [kernel.image.symbolize(at) for at in each] for bit, each in found.routines.items()}
    assert named == {bit: [f"_{name}"] for bit, name in SERVED.items()}
    used = sum(1 << bit for bit in SERVED)
    assert (found.tests, found.sets, found.clears) == (used, used, used)
    assert found.unknown == set()
    assert found.free == tuple(bit for bit in range(32) if bit not in SERVED)


def test_two_types_come_and_go_under_traffic(kernel: Kernel, netisr: Any) -> None:
    before, mark = text(kernel), kernel.log.position()
    with netisr.CallbackNetisr(kernel) as running:
        first, second = running.bits
        assert not {first, second} & SERVED.keys()
        end = time.monotonic() + 30
        while min(running.counted("served")) < 30:
            assert time.monotonic() < end
            time.sleep(0.1)
        for kind, bit in zip(("88b5", "88b6"), running.bits, strict=True):
            line = kernel.log.wait(rf"netisr: type 0x{kind} ", since=mark, deadline=20)
            told = STATISTICS.search(line.message)
            assert told, line
            assert int(told[2]) == bit
            assert int(told[4]) >= 25
        slots = running.dispatcher.variables
        for bit in (*running.bits, *SERVED):
            assert kernel.symbolize(int(slots[f"netisr_slots[{bit}].handler"])).endswith(
                SERVED.get(bit, "serve_first" if bit == first else "serve_second")
            )
        assert slots[f"netisr_slots[{first}].served"]
        assert slots["netisr_unknown"] == 0
        assert kernel.call("types:register_types", first, 1) == 0xFFFF_FFFF, "the bit is taken"
        pointed = r"\(types\) is in use: netisr_slots\[\d+\]\.handler of patch \d+ \(dispatcher\) points"
        with pytest.raises(Refused, match=pointed):
            kernel.remove(running.types.id)
        with pytest.raises(Refused, match=r"\(dispatcher\) is in use: patch \d+ \(types\) was linked"):
            kernel.remove(running.dispatcher.id)
        assert running.counted("bad") == running.counted("dropped") == (0, 0)
    beat(kernel)
    assert kernel.call("packets_sent")
    empty(kernel)
    assert text(kernel) == before


def test_again_and_again(kernel: Kernel, netisr: Any) -> None:
    """The same twice, the first time's memory perhaps still in use; all of it comes back."""
    for _ in range(2):
        with netisr.CallbackNetisr(kernel) as running:
            end = time.monotonic() + 30
            while min(running.counted("served")) < 3:
                assert time.monotonic() < end
                time.sleep(0.05)
    empty(kernel)
