"""What is seen of each source patch in a running guest: the kernel with it answers otherwise than without."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from kgdbpatch.kernel import Kernel

__all__ = ["DARWIN", "OBSERVED", "Observed", "command"]

_FOLDER = Path(__file__).parents[1] / "updates/patches"
_DEADLINE = 60.0  # seconds for one command of init
_BUFFER = b"\0" * 15
_CHECKS = 3  # of the guest, between which it has traffic
_COUNTERS = 72  # words of the table of counters
_CURSOR_WITHIN = 24  # bytes of a pid_namespace, in which idr_next is


class Observed(NamedTuple):
    """A source patch: what is seen without it and with it, which object of the kernel's it changes."""

    name: str
    look: Callable[[Kernel], object]
    before: object
    after: object
    target: str = ""

    @property
    def patch(self) -> Path:
        """The source patch."""
        return _FOLDER / ("" if self.target else "darwin") / f"{self.name}.patch"


def command(kernel: Kernel, text: str) -> list[str]:
    """Have the guest's init carry out a command; return what it reads, and how it ended."""
    mark = kernel.log.position()
    kernel.send(f"{text}\n")
    kernel.log.wait(f"^(done|failed) {re.escape(text)}", deadline=_DEADLINE, since=mark)
    said = [line.message for line in kernel.log.lines(mark) if line.source == "init"]
    return [one for one in said if one.startswith(("read: ", "done ", "failed "))]


def _read(kernel: Kernel, path: str) -> list[str]:
    return [line.removeprefix("read: ") for line in command(kernel, f"read {path}")[:-1]]


def _long_name(kernel: Kernel) -> bool:
    return command(kernel, f"sethostname {'n' * 40}")[-1].startswith("done")


def _ahead(kernel: Kernel) -> int:
    """How much the last field of /proc/loadavg is ahead of the process that is made next."""
    at = kernel.resolve("init_pid_ns")
    while True:
        before = kernel.read_virtual(at, _CURSOR_WITHIN)
        last = int(_read(kernel, "/proc/loadavg")[0].split()[-1])
        words = [int.from_bytes(before[at : at + 4], "big") for at in range(0, len(before), 4)]
        found = [word for word in words if word - 1 <= last <= word]
        if kernel.read_virtual(at, _CURSOR_WITHIN) == before and found:
            return last - found[0]


def _uptime_fields(kernel: Kernel) -> int:
    return len(_read(kernel, "/proc/uptime")[0].split())


def _null(kernel: Kernel) -> list[str]:
    return _read(kernel, "/dev/null")


def _kernel_thread(kernel: Kernel) -> str:
    states = [line for line in _read(kernel, "/proc/2/status") if line.startswith("State:")]
    short = _read(kernel, "/proc/2/stat")[0].split()[2]
    return f"{states[0].split()[1]}{short}"


def _eventfd(kernel: Kernel) -> list[str]:
    lines = command(kernel, "eventfd 5")
    return [line.removeprefix("read: ") for line in lines if "eventfd-writes" in line]


def _bool_of_nothing(kernel: Kernel) -> int:
    return kernel.call("kstrtobool", 0, _BUFFER) - (1 << 32)


def _bad_descriptor(kernel: Kernel) -> int:
    return kernel.call("replace_fd", 0x7FFF_FFF0, 0, 0) - (1 << 32)


def _allocations(kernel: Kernel) -> int:
    """How often giving a kobject the name that it has allocates memory."""
    kobject = int.from_bytes(kernel.read_virtual(kernel.resolve("mm_kobj"), 4), "big")
    name = b"mm"
    with kernel.patch("sysfs_rename_dir_ns", count=True) as counted:
        before = counted.hits or 0
        assert kernel.call("kobject_rename", kobject, name) == 0
        return (counted.hits or 0) - before


def _owner(kernel: Kernel) -> bool:
    """Whether ksets ask somebody for their owner: a word of the table of kset's operations."""
    at = kernel.resolve("kset_ktype")
    words = kernel.read_virtual(at, 24)
    function = kernel.resolve("kset_get_ownership").to_bytes(4, "big")
    return function in words


OBSERVED = (
    Observed("bound_check", _long_name, True, False, "kernel/sys.o"),
    Observed("missing_unlock", _bad_descriptor, -9, -9, "fs/file.o"),
    Observed("leak", _allocations, 1, 0, "lib/kobject.o"),
    Observed("wrong_errno", _bool_of_nothing, -22, -14, "lib/kstrtox.o"),
    Observed("off_by_one", _ahead, -1, 0, "fs/proc/loadavg.o"),
    Observed("shadow_field", _eventfd, [], ["eventfd-writes: 5"], "fs/eventfd.o"),
    Observed("static_inline", _kernel_thread, "SS", "KK", "fs/proc/array.o"),
    Observed("static_variable", _uptime_fields, 2, 3, "fs/proc/uptime.o"),
    Observed("function_table", _null, [], [""], "drivers/char/mem.o"),
    Observed("removed_function", _owner, True, False, "lib/kobject.o"),
)


def _logged(pattern: str) -> Callable[[Kernel], object]:
    """Return what tells whether a line comes to the log, before some checks of the guest's are over."""

    def look(kernel: Kernel) -> bool:
        for _ in range(_CHECKS):
            line = kernel.log.wait(rf"{pattern}|^selfcheck", since=kernel.log.position(), deadline=60)
            if not line.message.startswith("selfcheck"):
                return True
        return False

    return look


def _told_of_calls(kernel: Kernel) -> int:
    """In how many rows of a table the counter of system calls stands."""
    words = kernel.read_virtual(kernel.resolve("counters"), 4 * _COUNTERS)
    address = kernel.resolve("system_calls").to_bytes(4, "big")
    return sum(words[at : at + 4] == address for at in range(0, len(words), 4))


DARWIN = (
    Observed("errno", lambda kernel: kernel.call("find_counter", b"nope", 0), 2, 22),
    Observed("table", _told_of_calls, 1, 2),
    Observed("static_variable", _logged("^run_netisr: "), False, True),
    Observed("bound", lambda kernel: kernel.call("kalloc", 0) == 0, False, True),
    Observed("shadow_field", _logged("^mbuf: used"), False, True),
)
