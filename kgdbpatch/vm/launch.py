"""Start QEMU detached: listening sockets made by us, RAM in a memory file, stderr kept."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from kgdbpatch.errors import MissingTool, Misuse
from kgdbpatch.vm import events
from kgdbpatch.vm.machine import MachineDescription
from kgdbpatch.vm.process import Process, watched

__all__ = ["find_tool", "make_snapshot_store", "spawn"]

# Descriptors in the child. QEMU inherits listening sockets, so that a client can connect before
# QEMU serves them, and notices at once when QEMU ends without doing so.
_QMP, _GDB, _CONSOLE, _RAM, _ALIVE, _EVENTS = 10, 11, 12, 13, 14, 15
_SERVERS = {"qmp.sock": _QMP, "gdb.sock": _GDB, "console.sock": _CONSOLE}
_TOLD = 3  # where the watcher says QEMU's pid
_MIB = 1 << 20
_SHELL = "/bin/sh"
# QEMU's parent, which outlives the client: it says the pid, then writes down how QEMU ended.
_WATCHER = f'"$@" {_TOLD}>&- & echo $! >&{_TOLD}; exec {_TOLD}>&- 2>/dev/null; wait $!; echo $? >"$0"'


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
    """Start QEMU in its own session; return its process and a path to its RAM. It locks ``alive``."""
    binary = find_tool(machine.binary, machine.binary.replace("-system-ppc64", "-system-ppc"))
    command = [binary, *_arguments(name, machine, memory_mib, directory), *args]
    with ExitStack() as closing:

        def kept(descriptor: int) -> int:
            closing.callback(os.close, descriptor)
            return descriptor

        orders, listening = events.prepared(directory)
        told, tell = os.pipe()
        passed = {kept(orders): _EVENTS, tell: _TOLD}
        kept(told)
        for file, number in _SERVERS.items():
            server = closing.enter_context(socket.socket(socket.AF_UNIX))
            server.bind(str(directory / file))
            server.listen(16)
            passed[server.fileno()] = number
        ram = kept(os.memfd_create(f"kgdbpatch-{name}", os.MFD_CLOEXEC))  # nothing is left when QEMU ends
        os.ftruncate(ram, memory_mib * _MIB)
        alive = kept(os.open(directory / "alive", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        fcntl.flock(alive, fcntl.LOCK_EX)
        passed |= {ram: _RAM, alive: _ALIVE}
        try:
            watcher = os.posix_spawn(
                _SHELL,
                [_SHELL, "-c", _WATCHER, str(directory / "exit"), *command, *listening],
                os.environ,
                file_actions=placed(passed, directory / "qemu.stderr"),
                setsid=True,
                setsigmask=[],
            )
        finally:
            os.close(tell)
        pid = int(os.read(told, 32) or b"0")  # written at once; nothing when the shell could not start
        process = watched(Process.child(pid, directory), watcher)
    return process, f"/proc/{process.pid}/fd/{_RAM}"


def placed(passed: Mapping[int, int], errors: Path) -> list[tuple[object, ...]]:
    """Return what posix_spawn(3) does to the child's descriptors: ours ─► those in ``passed``."""
    aside = max(*passed, *passed.values()) + 1  # first out of the way of each other
    numbered = list(enumerate(passed.items(), start=aside))
    words = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return [
        *((os.POSIX_SPAWN_DUP2, ours, between) for between, (ours, _) in numbered),
        *((os.POSIX_SPAWN_DUP2, between, theirs) for between, (_, theirs) in numbered),
        *((os.POSIX_SPAWN_CLOSE, between) for between, _ in numbered),
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(errors), words, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]


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
