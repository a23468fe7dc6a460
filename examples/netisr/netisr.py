"""The paper's 4.2 on a running kernel: run_netisr becomes a callback system, two packet types are added.

python examples/netisr/netisr.py GUEST [SECONDS]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from kgdbpatch import Kernel, Patch

__all__ = ["CallbackNetisr", "main"]

_SOURCES = Path(__file__).parent
_DEADLINE = 30.0  # seconds


class CallbackNetisr:
    """The three patches; as a context manager they are in within it, and go under traffic."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.bits: tuple[int, int] = (-1, -1)  # that the two types are served on
        self.dispatcher: Patch | None = None
        self.types: Patch | None = None
        self.sender: Patch | None = None

    def __enter__(self) -> CallbackNetisr:
        self.replace()
        self.register()
        self.send()
        return self

    def __exit__(self, *_: object) -> None:
        self.take_out()

    def replace(self) -> None:
        """Let run_netisr call what is registered; what the kernel serves itself is registered as it is.

        Which routine it calls for which bit is read from the code that runs.
        """
        uses = self.kernel.bits("netisr")
        patch = self.kernel.patch("run_netisr", c=_SOURCES / "dispatcher.c", replace=True)
        self.dispatcher = patch
        for bit, (routine, *_) in uses.routines.items():
            patch.variables[f"netisr_slots[{bit}].handler"] = routine
        patch.variables["netisr_enabled"] = 1
        self._wait(patch, "netisr_dispatched", 1)  # the thread has left the kernel's own loop

    def register(self) -> None:
        """Add the two types, on bits that neither the kernel's code uses nor anybody is registered for."""
        assert self.dispatcher is not None
        slots = self.dispatcher.variables
        free = [b for b in self.kernel.bits("netisr").free if not slots[f"netisr_slots[{b}].handler"]]
        self.types = self.kernel.patch("ether_input", c=_SOURCES / "types.c")
        first, second = free[0], free[-1]
        if self.kernel.call("types:register_types", first, second) != 0:
            raise RuntimeError(f"the bits {first} and {second} are somebody else's")
        self.bits = first, second

    def send(self) -> None:
        """Put frames of the two types on the wire."""
        self.sender = self.kernel.patch("sys_sendto", c=_SOURCES / "sender.c")

    def counted(self, name: str) -> tuple[int, int]:
        """Return a counter of each type: received, served, bad, dropped; or sent."""
        patch, key = (
            (self.sender, "sender_sent[{}]") if name == "sent" else (self.types, f"types_known[{{}}].{name}")
        )
        assert patch is not None
        first, second = (patch.variables[key.format(number)] for number in range(2))
        assert isinstance(first, int)
        assert isinstance(second, int)
        return first, second

    def take_out(self) -> None:
        """Take all out again in reverse order, while the kernel's own packets go on."""
        if self.sender is not None:
            self.sender.variables["sender_enabled"] = 0
            self._drain()
            self.sender.remove()
        if self.types is not None:
            self.kernel.call("types:unregister_types")
            self.types.remove()
        if self.dispatcher is not None:
            self.dispatcher.remove()
        self.sender = self.types = self.dispatcher = None

    def _drain(self) -> None:
        end = time.monotonic() + _DEADLINE
        while self.counted("served") != self.counted("sent"):
            if time.monotonic() > end:
                raise TimeoutError(f"sent {self.counted('sent')}, served {self.counted('served')}")
            time.sleep(0.05)

    @staticmethod
    def _wait(patch: Patch, name: str, least: int) -> None:
        end = time.monotonic() + _DEADLINE
        while not isinstance(value := patch.variables[name], int) or value < least:
            if time.monotonic() > end:
                raise TimeoutError(f"{name} is {value!r}")
            time.sleep(0.05)


def main(guest: str, seconds: float = 5.0) -> None:
    """Do all of it on a guest that runs, and tell what was counted."""
    with Kernel.attach(guest) as kernel:
        with CallbackNetisr(kernel) as running:
            print(f"two types are served on the bits {running.bits}")
            time.sleep(seconds)
            for name in ("sent", "received", "served", "bad", "dropped"):
                print(name, *running.counted(name))
        print("patches left:", kernel.remove_all() or "none")


if __name__ == "__main__":
    main(sys.argv[1], *map(float, sys.argv[2:3]))
