"""Commands about guests: boot, ps, shutdown, image, log."""

from __future__ import annotations

import re
import time
from collections import deque
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from kgdbpatch.cli import completion
from kgdbpatch.cli.boot_options import BootFlags, with_boot_flags
from kgdbpatch.cli.dashes import WithDashes
from kgdbpatch.cli.options import AsJson, Name, Profile
from kgdbpatch.cli.output import json_line, table, tell, told_of
from kgdbpatch.cli.waiting import progress
from kgdbpatch.cli.words import Command, Group

if TYPE_CHECKING:
    from kgdbpatch.kernel.catalog import Guest

__all__ = ["boot", "image", "log", "ps", "shutdown"]

_COUNTED = "shift=0,sleep=off"


@with_boot_flags
def boot(
    ctx: typer.Context,
    guest: Annotated[
        str | None,
        Argument(
            metavar="GUEST",
            show_default=False,
            help="A recipe's name, or its FILE.toml; with --machine any name.",
            autocompletion=completion.profiles,
        ),
    ] = None,
    name: Annotated[
        str | None, Option(metavar="NAME", help="Call the guest NAME, not as its recipe.")
    ] = None,
    *,
    flags: BootFlags,
    icount: Annotated[
        bool, Option("--icount", help="Count instructions: time runs with them, the same every time.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Boot a guest and return when it is ready.

    GUEST is a recipe ('kgdbpatch recipe show' lists them), which the options change; with --machine it may
    be a name of your own. The guest goes on running. The kernels of bundled recipes are built on first use
    and cached. What stands behind -- is for QEMU.

    Patches lie in memory that the kernel is not told of: give it 'mem=' (Darwin: 'maxmem=') by --append, less
    than --memory. Without, a Linux is asked for some (4 MiB); where it gives none, nothing can be patched.

    Without --ready a Linux is ready when it starts its first process, another kernel when the first line
    stands on its console. Files of --drive are never written: what the guest writes goes with it.

    \b
    Examples:
      kgdbpatch boot darwin
      kgdbpatch boot linux --name server --memory 512
      kgdbpatch boot mine --machine g3beige --kernel vmlinux --initrd initrd.gz \\
        --append 'console=ttyPZ0 mem=256M' --memory 288 --ready 'login:'
      kgdbpatch boot --machine mac99 --kernel uImage --drive disk.img -- -device virtio-rng-pci
    """
    from kgdbpatch.kernel import Kernel
    from kgdbpatch.kernel.recipes import ordered

    start = time.monotonic()
    with progress(f"booting {guest or flags.machine or ''}") as say:
        recipe = ordered(guest, flags.options(ctx), name)
        booted = Kernel.boot(recipe, name, icount=_COUNTED if icount else None, patchable=False, progress=say)
    seconds = round(time.monotonic() - start, 3)
    booted.close()
    if as_json:
        json_line(told_of(booted, "running", boot_seconds=seconds))
        return
    tell(f"{booted.name} runs {booted.image.path} (QEMU process {booted.pid}, {seconds:.1f} s)")
    if booted.unpatchable is not None:
        tell(f"nothing can be patched in it: {booted.unpatchable}")


boot.command_class = WithDashes  # type: ignore[attr-defined]


def _guest(guest: Guest) -> dict[str, object]:
    return {
        key: value for key, value in asdict(guest).items() if key != "profile" and (key != "reason" or value)
    }


def ps(
    name: Annotated[str | None, Argument(metavar="NAME", show_default=False, help="Only this guest.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the guests and how they are: running, paused, panicked, hung, reset or ended.

    One whose QEMU has ended is listed until its name is booted again, and 'log' still reads it. It
    takes some seconds to tell that a kernel hangs. One that runs on while a thread does not leave a
    patch is told with the patch and the thread.

    \b
    Example:
      kgdbpatch ps --json
    """
    from kgdbpatch.kernel import catalog

    with progress("seeing how the guests are"):
        chosen = catalog.known() if name is None else [catalog.guest(name)]
        found = [_guest(guest) for guest in chosen]
    if as_json:
        for guest in found:
            json_line(guest)
        return
    rows = [tuple(guest[key] for key in ("name", "pid", "state", "kernel")) for guest in found]
    table(("NAME", "PID", "STATE", "KERNEL"), rows)
    for guest in found:
        if "reason" in guest:
            tell(f"{guest['name']} {guest['state']}: {guest['reason']}")


def shutdown(name: Name, as_json: AsJson = False) -> None:
    """End a guest, whatever state it is in.

    \b
    Example:
      kgdbpatch shutdown darwin
    """
    from kgdbpatch.kernel import catalog

    with progress(f"ending {name}"):
        ended = _guest(catalog.shutdown(name))
    if as_json:
        json_line(ended)
    else:
        tell(f"{name} has ended")


image = typer.Typer(
    cls=Group, no_args_is_help=True, help="Build the bundled kernels, and say where they are."
)


@image.command("build", cls=Command)
def build(profile: Profile, as_json: AsJson = False) -> None:
    """Build a profile's kernel when the cache has none, and print its path.

    \b
    Example:
      kgdbpatch image build linux
    """
    from kgdbpatch.kernel import catalog

    with progress(f"building {profile}") as say:
        path = catalog.build_image(profile, say)
    _print_path(path, as_json)


@image.command("path", cls=Command)
def path(profile: Profile, as_json: AsJson = False) -> None:
    """Print the path of a profile's kernel in the cache.

    \b
    Example:
      powerpc-linux-gnu-objdump -d "$(kgdbpatch image path linux)"
    """
    from kgdbpatch.kernel import catalog

    _print_path(catalog.image_path(profile), as_json)


@image.command("tree", cls=Command)
def tree(
    profile: Profile,
    folder: Annotated[Path, Argument(metavar="DIR", help="A new folder, on a disk with 2 GB free.")],
    as_json: AsJson = False,
) -> None:
    """Build a bundled kernel's source tree in a folder, as 'update build --tree' wants it: darwin or linux.

    Linux' takes some minutes, as the kernel's own build does.

    \b
    Example:
      kgdbpatch image tree linux ~/linux-tree
    """
    from kgdbpatch.errors import Misuse
    from kgdbpatch.guests import darwin_build, linux_tree

    makers = {"darwin": darwin_build.build_tree, "linux": linux_tree.build_tree}
    if profile not in makers:
        raise Misuse(f"'{profile}' has no source here: darwin and linux have")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Misuse(f"{folder} is not empty: the tree goes into a new folder")
    with progress("building the tree") as say:
        path = makers[profile](folder, say)
    _print_path(path, as_json)


def _print_path(path: Path, as_json: bool) -> None:
    if as_json:
        json_line({"path": str(path)})
    else:
        print(path)


def log(
    name: Name,
    follow: Annotated[bool, Option("--follow", "-f", help="Go on with lines as they come.")] = False,
    last: Annotated[
        int | None, Option("--lines", "-n", min=0, metavar="N", help="Only the last N lines so far.")
    ] = None,
    grep: Annotated[str, Option(metavar="REGEX", help="Only lines whose message matches.")] = "",
    until: Annotated[
        int | None, Option(min=1, metavar="N", help="Follow, and end after N lines more.")
    ] = None,
    timeout: Annotated[
        float | None, Option(min=0, metavar="S", help="Follow, and end after S seconds.")
    ] = None,
    everything: Annotated[
        bool, Option("--console", help="All lines of the console, not only the syslog's.")
    ] = False,
    source: Annotated[str | None, Option(metavar="S", help="Only lines of this source; a glob.")] = None,
    since: Annotated[
        str | None, Option(metavar="T", help="Only from the time T on, as the guest prints it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print the guest's syslog and, when it has panicked, all that it printed then.

    It can be read of a guest that has died, until its name is booted again. With --until, exit code 4
    says that the lines did not come in time. Lines without a time are as late as those before them.

    \b
    Examples:
      kgdbpatch log darwin -n 20
      kgdbpatch log darwin -f --json
      kgdbpatch log darwin --source 'KernMonitor*' --since 05:36:05
      kgdbpatch log linux --console --since 2.5
      kgdbpatch log darwin -f -n 0 --grep packet_counter --until 5 --timeout 30
    """
    from kgdbpatch.errors import Misuse, TargetTimeout
    from kgdbpatch.kernel import catalog
    from kgdbpatch.personality.base import LogLine

    def show(line: LogLine) -> None:
        if as_json:
            json_line({"time": line.time, "source": line.source, "message": line.message})
        elif not line.time:
            tell(line.message, keep="\t", flush=True)
        else:
            tell(f"{line.time} {line.source}: {line.message}", keep="\t", flush=True)

    try:
        wanted = re.compile(grep)
    except re.error as error:
        raise Misuse(f"--grep '{grep}': {error}") from error
    syslog = catalog.open_log(name)
    is_late = syslog.late(since) if since is not None else None

    def matches(line: LogLine) -> bool:
        late = is_late is None or is_late(line)  # asked of every line: it remembers the last time
        of_source = source is None or fnmatchcase(line.source, source)
        return late and of_source and wanted.search(line.message) is not None

    mark = syslog.position()
    lines = (line for line in syslog.lines(everything=everything) if matches(line))
    for line in lines if last is None else deque(lines, last):
        show(line)
    if not follow and until is None and timeout is None:
        return
    shown = 0
    for line in syslog.follow(mark, timeout, everything=everything):
        if matches(line):
            show(line)
            shown += 1
            if shown == until:
                return
    if until is not None:
        within = "before the guest ended" if timeout is None else f"within {timeout:g} s"
        raise TargetTimeout(f"{shown} of {until} lines came {within}")
