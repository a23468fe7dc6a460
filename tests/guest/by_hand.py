"""A QEMU as somebody starts it by hand: nothing of kgdbpatch in it, and a GDB server."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kgdbpatch.guests import Recipe
from kgdbpatch.vm.qmp import qmp

_EE = 0x8000  # MSR
_DEADLINE = 120.0  # seconds to boot, on a busy host


@dataclass(frozen=True, slots=True)
class ByHand:
    """A running QEMU; files of its own in ``directory``, ``ram`` bytes of RAM."""

    directory: Path
    process: subprocess.Popen[bytes]
    kernel: Path
    ram: int

    @property
    def gdb(self) -> str:
        return f"unix:{self.directory / 'gdb'}"

    @property
    def qmp(self) -> str:
        return str(self.directory / "qmp")

    @property
    def console(self) -> str:
        return str(self.directory / "console")

    def ask(self, command: str, **arguments: object) -> object:
        """Ask the monitor that kgdbpatch need not be told of."""
        return qmp(self.directory / "judge", command, arguments, 30.0)

    def runs(self) -> bool:
        """Return whether QEMU lets the guest run."""
        answer = self.ask("query-status")
        assert isinstance(answer, dict)
        return bool(answer["running"])

    def pause(self) -> None:
        """Stop the guest where interrupts are on: nothing need be executed then before it can be patched."""
        while True:
            self.ask("stop")
            told = str(self.ask("human-monitor-command", **{"command-line": "info registers"}))
            msr = re.search(r"^MSR (\w+)", told, re.MULTILINE)
            assert msr is not None
            if int(msr[1], 16) & _EE:
                return
            self.ask("cont")

    def resume(self) -> None:
        """Let it go on."""
        self.ask("cont")

    def memory(self, start: int = 0, size: int | None = None) -> bytes:
        """Return RAM, all of it or so many bytes."""
        path = self.directory / "memory"
        self.ask("pmemsave", val=start, size=self.ram if size is None else size, filename=str(path))
        try:
            return path.read_bytes()
        finally:
            path.unlink()


@contextmanager
def started(
    recipe: str | Recipe, *more: str, user: str | None = None, serial: bool = False
) -> Iterator[ByHand]:
    """Start what a recipe boots, as somebody would by hand, and wait until it is up; end it afterwards.

    ``user`` is who starts it, where that is not who runs the tests. With ``serial`` its console is a socket
    of that name, too.
    """
    plan = Recipe.find(recipe) if isinstance(recipe, str) else recipe
    machine = plan.machine
    kernel = plan.build(lambda _: None)
    directory = Path(tempfile.mkdtemp(prefix="by-hand-"))
    console = directory / "console"
    kind = f"socket,id=console,path={directory / 'serial'},server=on,wait=off"
    command = [
        *(machine.binary, "-M", machine.machine, "-cpu", machine.cpu, "-m", str(plan.memory.memory)),
        *machine.args,
        *("-chardev", f"{kind},logfile={console}" if serial else f"file,id=console,path={console}"),
        *(word.format(console="console") for word in machine.console),
        *("-gdb", f"unix:{directory / 'gdb'},server=on,wait=off"),
        *("-qmp", f"unix:{directory / 'qmp'},server=on,wait=off"),
        *("-qmp", f"unix:{directory / 'judge'},server=on,wait=off"),
        *plan.qemu_args(kernel, directory),
        *more,
    ]
    if user is not None:
        for path in (directory, *directory.iterdir()):
            shutil.chown(path, user)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, user=user)
    try:
        end = time.monotonic() + _DEADLINE
        ready = plan.ready.replace(r"\b", "")
        while not (console.exists() and ready in console.read_text(errors="replace")):
            assert process.poll() is None, "QEMU ended"
            assert time.monotonic() < end, "it does not come up"
            time.sleep(0.05)  # nobody tells when another process writes to its file
        yield ByHand(directory, process, kernel, plan.memory.memory << 20)
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(directory)
