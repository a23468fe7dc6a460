"""How long a snapshot may take grows with the guest's memory, and one that took too long does no harm."""

from __future__ import annotations

import pytest

from kgdbpatch.errors import TargetTimeout
from kgdbpatch.vm.machine import MachineDescription
from kgdbpatch.vm.qemu import Qemu

pytestmark = [pytest.mark.guest, pytest.mark.usefixtures("runtime")]


def test_a_larger_guest_is_given_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, list[float]] = {}
    plain = Qemu.hmp

    def noting(self: Qemu, command: str, deadline: float = 10.0) -> str:
        given.setdefault(self.name, []).append(deadline)
        return plain(self, command, deadline=deadline)

    monkeypatch.setattr(Qemu, "hmp", noting)
    for name, memory in (("small", 32), ("large", 2032)):
        guest = Qemu.start(name, MachineDescription.load("g3beige"), memory, ["-S"])
        try:
            guest.savevm("first")
            guest.loadvm("first")
        finally:
            guest.shutdown()
    assert given["small"][0] < given["large"][0]
    assert given["large"] == given["large"][:1] * 2
    assert given["large"][0] > 300  # 2 GiB on a disk that takes a few MiB a second


def test_one_that_took_too_long() -> None:
    guest = Qemu.start("late", MachineDescription.load("g3beige"), 64, ["-S"])
    try:
        with pytest.raises(TargetTimeout, match="human-monitor-command"):
            guest.savevm("first", deadline=0.0)
        guest.savevm("second")
        guest.loadvm("second")
        assert "second" in guest.hmp("info snapshots")
    finally:
        guest.shutdown()
