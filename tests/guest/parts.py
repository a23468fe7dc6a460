"""What a `Kernel` is made of, made anew for its guest: for tests that look closer than a user does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kgdbpatch.component import ComponentClient
from kgdbpatch.component.arena import Arena
from kgdbpatch.cpu.ppc6xx import Ppc6xx
from kgdbpatch.guests import Recipe
from kgdbpatch.kernel import Kernel
from kgdbpatch.kernel.planner import Planner
from kgdbpatch.kernel.running import RunningText
from kgdbpatch.kernel.threads import Threads
from kgdbpatch.personality import Personality
from kgdbpatch.vm.gdb import Debugger

__all__ = ["arena", "client", "component", "personality", "physical", "planner", "text", "threads", "write"]


def personality(kernel: Kernel) -> Personality:
    """Return the guest's operating system."""
    return Recipe.recorded(kernel.qemu.metadata).personality


def text(kernel: Kernel) -> RunningText:
    """Return the running text."""
    return RunningText(kernel.qemu, personality(kernel), kernel.image)


def arena(kernel: Kernel) -> Arena:
    """Return the arena, for reading."""
    return Arena(kernel.qemu.ram, kernel.header.arena)


def threads(kernel: Kernel) -> Threads:
    """Return the kernel's threads."""
    base = kernel.image.code_sections()[0].address
    shift = base - physical(kernel, base)
    return Threads(kernel.qemu, personality(kernel), kernel.image, Ppc6xx(), shift)


def planner(kernel: Kernel, via: str = "auto") -> Planner:
    """Return what plans patches from the arena as it is."""
    running = text(kernel)
    tails = running.free_tails() if via == "tails" else ()
    return Planner(kernel.image, kernel.site_checker, arena(kernel), hook=running.hook, via=via, tails=tails)


def component(kernel: Kernel) -> ComponentClient:
    """Return a client of the component that uses the kernel's own debugger."""
    return ComponentClient(kernel.qemu, lambda: kernel.debugger, Ppc6xx(), threads(kernel))


@contextmanager
def client(kernel: Kernel) -> Iterator[ComponentClient]:
    """Give a client of the component with a debugger of its own."""
    with Debugger(kernel.qemu) as debugger:
        yield ComponentClient(kernel.qemu, lambda: debugger, Ppc6xx(), threads(kernel))


def physical(kernel: Kernel, address: int) -> int:
    """Return the physical address of wired kernel memory."""
    found = personality(kernel).to_physical(kernel.image, address)
    assert found is not None, hex(address)
    return found


def write(kernel: Kernel, site: str | int, word: int) -> None:
    """Write a word of the kernel's text, as the kernel itself or damage would."""
    with kernel.stopped() as session:
        session.write_physical(physical(kernel, kernel.resolve(site)), word.to_bytes(4, "big"))
