"""The guest ``darwin``: the bundled Darwin/PPC-style kernel (Mach-O), booted without firmware."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from kgdbpatch import store
from kgdbpatch.errors import BuildFailed
from kgdbpatch.guests.booter import loader_args
from kgdbpatch.guests.profile import MIB, LogLine, Profile, Thread, Vitals, Window
from kgdbpatch.guests.sources import guest_sources

if TYPE_CHECKING:
    from kgdbpatch.image import Image

__all__ = ["SECOND_CONSOLE", "Darwin"]

_LOG_LINE = re.compile(
    r"(?P<time>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d) (?P<host>\S+) (?P<source>[^\s:]+): (?P<message>.*)"
)
_TOOLS = ("powerpc-linux-gnu-gcc", "powerpc-linux-gnu-as", "powerpc-linux-gnu-ld")
_SOURCES = ("**/*.[chS]", "**/*.ld", "*.py", "../macho.py", "../macho_object.py")
_SCRATCH = 8 * MIB
_THREAD = struct.Struct(">8x3I36x2I")  # of images/darwin/include/kern.h: sp stack_low stack_high name next
_MOST_THREADS = 4096
_NAME = 32  # bytes of a thread's name
_KERNEL = "mach_kernel"
SECOND_CONSOLE = "tail.log"


class Darwin(Profile):
    """Our own kernel on a beige G3: 256 MiB announced, the 32 MiB above them are the arena.

    The arena lies where its physical addresses are, 256 MiB: out of branch reach of the text, so
    every patch goes through a springboard in virtual page 1, which the kernel leaves unmapped.
    """

    name = "darwin"
    kernel_format = "mach-o"
    memory_mib = 288
    announced_mib = 256
    ready = r"mach_kernel: system ready\b"
    panic = r"^panic\(cpu \d+\)"
    heartbeat = 1.0
    beat = r" selfcheck: "
    untranslated_sections = frozenset({"__VECTORS,__interrupts"})

    def build(self, progress: Callable[[str], None]) -> Path:
        """Build the kernel when the cache has none for these sources and this compiler.

        Where the sources are gone, the kernel that was built last serves.
        """
        if not _has_sources() and (last := _last_built()) is not None:
            return last

        def make(result: Path, scratch: Path) -> None:
            progress("building the darwin guest's kernel")
            _run(sys.executable, str(guest_sources("darwin") / "build.py"), str(result))

        return store.made_once(_entry(), make, progress, _SCRATCH) / _KERNEL

    def image_path(self) -> Path | None:
        """Return the cached kernel's path, or None when it is not built."""
        if not _has_sources():
            return _last_built()
        path = store.directory() / _entry() / _KERNEL
        return path if path.exists() else None

    def command_line(self, epoch: int) -> str:
        """Return the kernel's command line for a boot at ``epoch`` (seconds since 1970)."""
        return f"maxmem={self.announced_mib} epoch={epoch} timebase={self.timebase_hz} hostname={self.name}"

    def qemu_args(self, kernel: Path, directory: Path) -> list[str]:
        """Return the arguments that load ``kernel`` and start it as its booter would.

        The second channel of the serial chip, where the guest follows its own system.log, is written
        to `SECOND_CONSOLE` in ``directory``.
        """
        tail = str(directory / SECOND_CONSOLE).replace(",", ",,")
        second = ["-chardev", f"file,id=second,path={tail}", "-serial", "chardev:second"]
        return [
            *loader_args(kernel, directory, self.memory_mib * MIB, self.command_line(int(time.time()))),
            *second,
        ]

    def parse_log(self, line: str) -> LogLine | None:
        """Parse ``Nov 23 05:36:05 host mach_kernel: message``."""
        match = _LOG_LINE.fullmatch(line.rstrip("\r\n"))
        return match and LogLine(match["time"], match["source"], match["message"])

    def log_seconds(self, time: str) -> float | None:
        """Return the seconds of ``Nov 23 05:36:05`` in its year, of ``05:36:05`` in its day."""
        for form in ("%Y %b %d %H:%M:%S", "%Y %H:%M:%S"):
            with suppress(ValueError):
                found = datetime.strptime(f"2000 {time}", form).replace(tzinfo=UTC)
                return (found - datetime(2000, 1, 1, tzinfo=UTC)).total_seconds()
        return None

    def vitals(self, image: Image) -> Vitals:
        """Return the count of changes of threads."""
        found = (symbol.address for symbol in image.symbols if symbol.name == "_context_switches")
        places = (self.to_physical(image, address) for address in found)
        return Vitals((), tuple(place for place in places if place is not None))

    def to_physical(self, image: Image, address: int) -> int | None:
        """Return ``address`` itself within the image, which is wired one-to-one; None elsewhere."""
        loaded = (segment for segment in image.segments if segment.name != "__LINKEDIT")
        return address if any(address in segment for segment in loaded) else None

    def stack_physical(self, image: Image, address: int) -> int | None:
        """Return ``address`` itself: kernel stacks and what the kernel allocates are mapped one-to-one."""
        return address if address < self.announced_mib * MIB else None

    def stack_size(self, image: Image) -> int:
        """Return what the kernel's own symbol says, else what xnu has: 16 KiB."""
        known = (s.address for s in image.symbols if s.name == "_kernel_stack_size")
        return next(known, 0x4000)

    def threads(self, image: Image, read: Callable[[int, int], bytes | None]) -> Iterator[Thread]:
        """Yield the threads on the bundled kernel's list; none of a kernel that has no such list."""
        head = next((symbol.address for symbol in image.symbols if symbol.name == "_all_threads"), None)
        link = None if head is None else read(head, 4)
        for _ in range(_MOST_THREADS):
            at = int.from_bytes(link or b"", "big")
            held = read(at, _THREAD.size) if at else None
            if held is None:
                return
            sp, low, high, text, after = _THREAD.unpack(held)
            name = (read(text, _NAME) or b"").split(b"\0")[0].decode(errors="replace")
            yield Thread(name, Window(low, high), sp)
            link = after.to_bytes(4, "big")

    def arena_virtual(self, image: Image) -> int:
        """Return the arena's own physical address: the kernel maps nothing at 256 to 336 MiB."""
        return self.announced_mib * MIB

    def springboard_window(self, image: Image) -> Window:
        """Return page 1: unmapped, like page 0, so that null pointers are caught (paper, 3.3.4)."""
        return Window(0x1000, 0x2000)

    def near_window(self, image: Image) -> Window:
        """Return the topmost 16 MiB, which the kernel maps nowhere: for patches without a springboard."""
        return Window(0xFF00_0000, 1 << 32)

    def tail_window(self, image: Image) -> Window:
        """Return two pages of the topmost 32 MiB for physical pages 0 and 1 (paper, 3.3.4).

        The paper maps the vectors where they lie. Seen from here, the null page stays unmapped and
        goes on catching null pointers.
        """
        return Window(0xFE00_0000, 0xFE00_2000)


def _run(*command: str) -> str:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except FileNotFoundError as error:
        raise BuildFailed(f"{command[0]} is not installed (scripts/setup installs what is needed)") from error
    except subprocess.CalledProcessError as error:
        raise BuildFailed(f"{' '.join(command)}: {error.stderr.strip()}") from error


@lru_cache(maxsize=1)
def _toolchain() -> str:
    return "".join(_run(tool, "--version") for tool in _TOOLS)


def _has_sources() -> bool:
    try:
        guest_sources("darwin")
    except BuildFailed:
        return False
    return True


def _last_built() -> Path | None:
    """Return the newest kernel in the cache, or None."""
    built = store.directory().glob(f"darwin-*/{_KERNEL}")
    return max(built, key=lambda path: path.stat().st_mtime, default=None)


def _entry() -> str:
    """Return the name of the kernel's cache entry: a hash of its sources and its tools."""
    root = guest_sources("darwin")
    files = sorted({path.resolve() for pattern in _SOURCES for path in root.glob(pattern)})
    named = [part for path in files for part in (str(path.relative_to(root.resolve().parent)), path)]
    return f"darwin-{store.content_key([_toolchain(), *named])}"
