"""Start QEMU detached: listening sockets made by us, RAM in a memory file, stderr kept."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from kgdbpatch.errors import MissingTool, Misuse
from kgdbpatch.target.machine import MachineDescription
from kgdbpatch.target.process import Process

__all__ = ["find_tool", "make_snapshot_store", "spawn"]

# Descriptors in the child. QEMU inherits listening sockets, so that a client can connect before
# QEMU serves them, and notices at once when QEMU ends without doing so.
_QMP, _GDB, _CONSOLE, _RAM = 10, 11, 12, 13
_MIB = 1 << 20


def find_tool(name: str, package: str) -> str:
    """Return the path of a program; raise `MissingTool` naming the Debian package."""
    path = shutil.which(name)
    if path is None:
        raise MissingTool(f"{name} is not installed (Debian: {package})")
    return path


def make_snapshot_store(path: Path) -> None:
    """Create the qcow2 file that snapshots are kept in."""
    tool = find_tool("qemu-img", "qemu-utils")
    command = [tool, "create", "-q", "-f", "qcow2", str(path), "1M"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Misuse(f"qemu-img: {done.stderr.strip()}")


def spawn(
    name: str, machine: MachineDescription, memory_mib: int, args: Sequence[str], directory: Path
) -> tuple[Process, str]:
    """Start QEMU in its own session; return its process and a path that opens the guest's RAM."""
    binary = find_tool(machine.binary, machine.binary.replace("-system-ppc64", "-system-ppc"))
    command = [binary, *_arguments(name, machine, memory_mib, directory), *args]
    with ExitStack() as closing:
        passed = {
            closing.enter_context(_listening(directory / "qmp.sock")): _QMP,
            closing.enter_context(_listening(directory / "gdb.sock")): _GDB,
            closing.enter_context(_listening(directory / "console.sock")): _CONSOLE,
            closing.enter_context(_memory(name, memory_mib * _MIB)): _RAM,
        }
        words = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        pid = os.posix_spawn(
            binary,
            command,
            os.environ,
            file_actions=[
                # first out of the way of each other, then to their places
                *((os.POSIX_SPAWN_DUP2, ours, theirs + 100) for ours, theirs in passed.items()),
                *((os.POSIX_SPAWN_DUP2, theirs + 100, theirs) for theirs in passed.values()),
                *((os.POSIX_SPAWN_CLOSE, theirs + 100) for theirs in passed.values()),
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(directory / "qemu.stderr"), words, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
    return Process.child(pid), f"/proc/{pid}/fd/{_RAM}"


def _arguments(name: str, machine: MachineDescription, memory_mib: int, directory: Path) -> list[str]:
    if not 1 <= memory_mib <= machine.max_memory_mib:
        raise Misuse(f"machine '{machine.name}' takes 1 to {machine.max_memory_mib} MiB, not {memory_mib}")
    log, store = (str(directory / file).replace(",", ",,") for file in ("console.log", "snapshots.qcow2"))
    return [
        *("-name", name, "-pidfile", str(directory / "pid")),
        *("-M", f"{machine.machine},memory-backend=ram", "-cpu", machine.cpu, "-m", str(memory_mib)),
        *("-object", f"memory-backend-file,id=ram,size={memory_mib}M,mem-path=/proc/self/fd/{_RAM},share=on"),
        *machine.args,
        *("-chardev", f"socket,id=qmp,fd={_QMP},server=on,wait=off", "-mon", "chardev=qmp,mode=control"),
        *("-chardev", f"socket,id=gdb,fd={_GDB},server=on,wait=off", "-gdb", "chardev:gdb"),
        *("-chardev", f"socket,id=console,fd={_CONSOLE},server=on,wait=off,logfile={log}"),
        *(word.format(console="console") for word in machine.console),
        *("-drive", f"file={store},if=none,format=qcow2,id=snapshots"),
    ]


@contextmanager
def _listening(path: Path) -> Iterator[int]:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
        made.listen(16)
        yield made.fileno()


@contextmanager
def _memory(name: str, size: int) -> Iterator[int]:
    """Make the RAM as a memory file: no directory holds it, so nothing is left when QEMU ends."""
    descriptor = os.memfd_create(f"kgdbpatch-{name}", os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, size)
        yield descriptor
    finally:
        os.close(descriptor)
