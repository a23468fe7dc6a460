"""Modules come and go while patches stand, in a kernel that is configured as distributions do."""

from __future__ import annotations

import re

import pytest

from kgdbpatch.kernel import Kernel
from kgdbpatch.results import PatchState

pytestmark = [pytest.mark.kernel("linux"), pytest.mark.linux, pytest.mark.soak]
ROUNDS, FUNCTIONS = 150, 1000  # two modules a round
MIB = 1 << 20
LINE = re.compile(r"read: (\w+) (\d+) .* 0x([0-9a-f]+)")
ROOM = re.compile(r"sized: at ([0-9a-f]+)")


def obeyed(kernel: Kernel, command: str) -> list[str]:
    """Have init do what is told; return what was printed meanwhile."""
    position = kernel.log.position()
    kernel.send(f"{command}\n")
    answer = kernel.log.wait(rf"(done|failed) {re.escape(command)}", since=position, deadline=120).message
    assert answer == f"done {command}"
    return [line.message for line in kernel.log.lines(since=position)]


def modules(kernel: Kernel) -> dict[str, int]:
    """Return where the code of what is loaded begins, by name, as the kernel itself says."""
    found = (LINE.match(line) for line in obeyed(kernel, "read /proc/modules"))
    return {match[1]: int(match[3], 16) for match in found if match}


@pytest.mark.timeout(3600)
def test_modules_come_and_go(kernel: Kernel) -> None:
    """Nothing is lost of 1,000 patches, and what modules hold is theirs alone."""
    functions = [one for one in kernel.functions("*") if one.section == ".text" and one.size > 64]
    patches = kernel.patch_all([one.address + 16 for one in functions[::8]], count=True).patches
    assert len(patches) > FUNCTIONS
    arena = kernel.header.arena
    assert arena.near is not None
    windows = [(arena.virtual, arena.virtual + arena.size), (arena.near.start, arena.near.end)]
    for _ in range(ROUNDS):
        obeyed(kernel, "insmod /lib/counter.ko")
        told = next(filter(None, map(ROOM.search, obeyed(kernel, "insmod /lib/sized.ko"))))
        found = {module.name: module.code for module in kernel.modules()}
        assert {name: code.start for name, code in found.items()} == modules(kernel)
        assert found.keys() == {"counter", "sized"}
        room = int(told[1], 16)
        for low, high in ((room, room + 16 * MIB), *((code.start, code.end) for code in found.values())):
            assert not any(low < end and start < high for start, end in windows), hex(low)
        assert "sized: 0 words of 4194304 are wrong" in obeyed(kernel, "rmmod sized")
        obeyed(kernel, "rmmod counter")
    table = kernel.patch_table()
    assert len(table) == len(patches)
    assert {row.state for row in table} == {PatchState.ACTIVE}
    assert kernel.verify().ok
    position = kernel.log.position()
    assert kernel.log.wait(r"selfcheck: \d+ ok, 0 bad", since=position, deadline=60)
    while kernel.remove_all():
        pass
    assert kernel.verify().patched == 0
