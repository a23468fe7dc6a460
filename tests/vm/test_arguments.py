from __future__ import annotations

import pytest

from kgdbpatch.errors import Misuse
from kgdbpatch.vm.arguments import check_arguments


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["-gdb", "tcp::1234"], "-gdb"),
        (["--gdb", "tcp::1234"], "--gdb"),
        (["-nodefaults", "-s"], "-s"),
        (["-S"], "-S"),
        (["-qmp", "unix:x"], "-qmp"),
        (["-monitor", "stdio"], "-monitor"),
        (["-kernel", "x"], "say --kernel"),
        (["-m", "1G"], "say --memory"),
        (["-smp", "2"], "say --smp"),
        (["-M", "mac99"], "say --machine"),
        (["-machine", "mac99,graphics=off"], "say --machine"),
        (["-machine", "graphics=off,type=mac99"], "type=mac99"),
        (["-machine", "memory-backend=x"], "memory-backend=x"),
        (["-daemonize"], "-daemonize"),
        (["-snapshot"], "-snapshot"),
        (["-incoming", "defer"], "-incoming"),
        (["-help"], "-help"),
        (["-M"], "say --machine"),
    ],
)
def test_what_is_ours_is_refused_by_name(words: list[str], named: str) -> None:
    with pytest.raises(Misuse) as caught:
        check_arguments(words)
    assert named in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["-device", "virtio-rng-pci"],
        ["-machine", "graphics=off"],
        ["-M", "usb=on"],
        ["-serial", "file:x"],
        ["-prom-env", "auto-boot?=false"],
        ["disk.img"],
        ["-nic", "user"],
    ],
)
def test_others_are_qemus_matter(words: list[str]) -> None:
    check_arguments(words)
