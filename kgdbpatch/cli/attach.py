"""Commands about guests that somebody else started: attach, detach."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from kgdbpatch.cli.options import AsJson, Name, Wait
from kgdbpatch.cli.output import json_line, tell, told_of
from kgdbpatch.cli.waiting import progress

__all__ = ["attach", "detach"]

NewName = Annotated[str, Argument(metavar="NAME", help="What the guest is to be called.", show_default=False)]


def attach(
    name: NewName,
    gdb: Annotated[
        str,
        Option(metavar="SERVER", help="Its GDB server: unix:PATH or HOST:PORT, as QEMU's -gdb has it."),
    ],
    kernel: Annotated[
        Path | None,
        Option(metavar="FILE", help="The kernel that runs in it; without it, a Linux is found in memory."),
    ] = None,
    qmp: Annotated[str, Option(metavar="PATH", help="The socket of a QMP monitor of it.")] = "",
    console: Annotated[
        str,
        Option(
            metavar="PLACE",
            help="Its console: a file that it is written to, unix:PATH, HOST:PORT, or /dev/pts/N.",
        ),
    ] = "",
    arena: Annotated[
        str, Option(metavar="START..END", help="Physical RAM that nobody uses, for patches.")
    ] = "",
    text: Annotated[
        str, Option(metavar="START..END", help="Where its code is, of a kernel without a file.")
    ] = "",
    paused: Annotated[
        bool, Option("--paused", help="The guest stands still, where that cannot be seen.")
    ] = False,
    remote_host: Annotated[
        bool,
        Option(
            "--remote-host", help="GDB server and console may be another host's: they ask nobody who he is."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Attach to a QEMU that somebody else started, by its GDB server.

    Then every command works with NAME as with a guest that was booted here, as far as 'doctor NAME' says.
    The guest is stopped for moments, and never ended. Patches lie in RAM that the kernel does not use, or
    that it gives: a Linux is asked for 4 MiB.

    \b
    Examples:
      kgdbpatch attach mine --gdb unix:/run/mine/gdb.sock --kernel ./vmlinux
      kgdbpatch attach mine --gdb :1234 --qmp ./qmp.sock --kernel ./vmlinux --console ./serial.log
      kgdbpatch attach box --gdb :1234 --text 0x2000..0x4e000 --arena 0x2000000..0x4000000
      kgdbpatch detach mine
    """
    from kgdbpatch.kernel import attaching

    with progress(f"attaching to {gdb}") as say:
        found = attaching.attach(
            name,
            gdb,
            kernel,
            qmp=qmp,
            console=console,
            arena=arena,
            text=text,
            remote=remote_host,
            paused=paused,
            progress=say,
        )
        state = found.health.state
    found.close()
    if as_json:
        json_line(told_of(found, state))
    else:
        process = f"QEMU process {found.pid}" if found.pid else "its QEMU's process is not seen from here"
        tell(f"{name} is attached to; it runs {found.image.path} and is {state} ({process})")
        if found.unpatchable is not None:
            tell(f"nothing can be patched in it: {found.unpatchable}")


def detach(
    name: Name,
    force: Annotated[
        bool, Option("--force", help="Drop the records of damaged patches, and leave their sites.")
    ] = False,
    wait: Wait = 10.0,
    as_json: AsJson = False,
) -> None:
    """Take our patches and the kernel component out of a guest that was attached to, and let go of it.

    Its memory is as it was where we wrote, and what it gave is freed; it runs if it ran, and stays paused
    if it was paused.

    \b
    Example:
      kgdbpatch detach mine
    """
    from dataclasses import asdict

    from kgdbpatch.kernel import attaching

    with progress(f"detaching from {name}"):
        done = attaching.detach(name, force=force, wait=wait)
    if as_json:
        json_line({key: value for key, value in asdict(done).items() if key != "reason" or value})
    elif done.restored:
        tell(f"{name} is let go of, as it was ({done.removed} patches were taken out)")
    else:
        tell(f"{name} is forgotten" + (f": {done.reason}" if done.reason else ""))
