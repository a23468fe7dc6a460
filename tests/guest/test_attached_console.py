"""A guest whose console is a socket of its QEMU: its log is there while it is attached to."""

from __future__ import annotations

import gc
import os
import re
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from kgdbpatch.errors import TargetBusy
from kgdbpatch.kernel import Kernel, catalog
from kgdbpatch.kernel.attaching import attach, detach
from kgdbpatch.kernel.guest_doctor import examine
from kgdbpatch.vm import runtime

from .by_hand import ByHand, started

pytestmark = [pytest.mark.long, pytest.mark.guest]


@pytest.fixture(scope="module")
def guest() -> Iterator[ByHand]:
    with started("darwin", serial=True) as found:
        yield found


def test_the_log_of_a_socket(guest: ByHand) -> None:
    place = f"unix:{guest.directory / 'serial'}"
    attach("heard", guest.gdb, guest.kernel, console=place).close()
    with Kernel.attach("heard") as kernel:
        seen = kernel.log.wait(r"\w", deadline=60)
        assert seen.message
        kernel.patch("ip_input", count=True)
        assert kernel.health.state == "running"
        traits = {trait.topic: trait for trait in examine("heard")}
        assert traits["log"].works
        assert place in traits["log"].found
    with socket.socket(socket.AF_UNIX) as user:
        assert detach("heard").restored
        user.connect(place.removeprefix("unix:"))  # it is the user's again
        user.settimeout(60)
        assert user.recv(1)
        with pytest.raises(TargetBusy, match=rf"console at {place} is in use, process {os.getpid()} "):
            attach("heard", guest.gdb, guest.kernel, console=place)
    assert "heard" not in [one.name for one in runtime.guests()]
    assert guest.runs()


def test_a_kernel_that_is_closed_keeps_nothing_open(guest: ByHand) -> None:
    def opened() -> list[str]:
        links = []
        for number in os.listdir("/proc/self/fd"):
            with suppress(FileNotFoundError):  # the directory's own
                links.append(re.sub(r"\d+", "N", os.readlink(f"/proc/self/fd/{number}")))
        return sorted(link for link in links if not link.endswith(guest.kernel.name))  # that is the image's

    attach("kept", guest.gdb, guest.kernel).close()
    gc.collect()
    gc.disable()
    try:
        before = opened()
        kernel = Kernel.attach("kept")
        assert kernel.verify().ok
        with kernel.stopped():
            pass
        assert len(opened()) > len(before)
        kernel.close()
        assert opened() == before
        assert kernel.alive  # what is asked for later is opened anew
        assert kernel.verify().ok
        kernel.close()
        assert opened() == before
    finally:
        gc.enable()
        detach("kept")
    assert catalog.names().count("kept") == 0
