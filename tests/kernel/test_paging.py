"""Before the component is installed there is no stub: a kernel that keeps nothing for us is left alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from component.fake import FakeMachine, Flat

from kgdbpatch.component import ComponentClient
from kgdbpatch.cpu.ppc6xx import Ppc6xx
from kgdbpatch.image import Image
from kgdbpatch.kernel.reservation import Reservation
from kgdbpatch.kernel.running import RunningText
from kgdbpatch.personality.base import Pager

from .tiny import Near


class Paged(Near):
    """A system whose page tables could be filled, but which has kept no addresses."""

    def pager(self, image: Image, read: Callable[[int, int], bytes]) -> Pager:
        return cast("Pager", object())


@pytest.mark.parametrize("system", [Near, Paged])
def test_nothing_is_called_before_there_is_a_stub(image: Image, system: type[Near]) -> None:
    kind = system()
    machine = FakeMachine(kind.memory.memory << 20)
    text = RunningText(machine, kind, image)
    client = ComponentClient(machine, lambda: machine, Ppc6xx(), Flat(kind.memory.announced << 20))
    nobody: Any = None
    reservation = Reservation(cast("Any", machine), kind, image, nobody, text)
    assert reservation.page_entries(client, text.arena) == []
    assert (machine.stops, machine.obeyed) == (0, [])
