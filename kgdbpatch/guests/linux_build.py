"""Build Linux guests: an unmodified kernel from Debian's source package, modules of ours, our initramfs."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from functools import reduce
from pathlib import Path

from kgdbpatch import store
from kgdbpatch.errors import BuildFailed
from kgdbpatch.guests.cpio import device, directory, file, newc
from kgdbpatch.guests.sources import guest_sources, output

__all__ = [
    "SCRATCH",
    "SOURCES",
    "build_initramfs",
    "build_kernel",
    "cached_kernel",
    "missing_options",
    "reason",
    "source",
    "unknown_options",
    "unpack",
    "with_options",
]

SOURCES = Path("/usr/src")  # where Debian's and Ubuntu's packages linux-source-* put their archives
_ARCHIVE = re.compile(r"linux-source-(\d+(?:\.\d+)*)\.tar\.\w+")
_ARCHIVE_SUFFIX = re.compile(r"\.tar\.\w+$")
_PREFERRED = "6.1"
_PREFIX = "powerpc-linux-gnu-"
_CC = f"{_PREFIX}gcc"
_OBJCOPY = f"{_PREFIX}objcopy"
_INIT_FLAGS = ("-O2", "-std=gnu11", "-static", "-s", "-Wall", "-Wextra", "-Werror")
SCRATCH = 4096 << 20  # bytes: the unpacked source and the objects
_DEFINED = re.compile(r"^\s*(?:menu)?config (\w+)", re.MULTILINE)
_STEPS_PER_LINE = 250  # of make's output, for each line of progress

# Parts of the source that our configuration never reads. Kconfig files and makefiles stay: the
# kernel's build walks all of them. Its tools have parts of the same names, which they read.
_UNREAD_PARTS = """drivers/crypto drivers/gpu drivers/iio drivers/infiniband drivers/media
    drivers/net/ethernet
    drivers/net/wireless drivers/staging drivers/usb sound arch/alpha arch/arc arch/arm arch/arm64 arch/csky
    arch/hexagon arch/ia64 arch/loongarch arch/m68k arch/microblaze arch/mips arch/nios2 arch/openrisc
    arch/parisc arch/riscv arch/s390 arch/sh arch/sparc arch/um arch/x86 arch/xtensa"""
_UNREAD = (
    *(f"{{top}}/{part}/*.[chS]" for part in _UNREAD_PARTS.split()),
    *(f"*/Documentation/*.{suffix}" for suffix in ("rst", "txt", "yaml", "svg", "json")),
    "*/tools/perf/*",
    "*/tools/testing/*",
)
_TREES = ("*/boot/dts/*.dts", "*/boot/dts/*.dtsi")  # nor those, but by its boot wrapper

# What would change the image without changing its meaning.
_FIXED = {
    "LC_ALL": "C",
    "KBUILD_BUILD_TIMESTAMP": "Thu Jan  1 00:00:00 UTC 1970",
    "KBUILD_BUILD_USER": "kgdbpatch",
    "KBUILD_BUILD_HOST": "kgdbpatch",
    "KBUILD_BUILD_VERSION": "1",
}


def source(version: str = "") -> Path:
    """Return the archive of the kernel's source: of ``version``, or of 6.1 or else the newest there is.

    Raises `BuildFailed` where it is not installed.
    """
    found = {
        match[1]: path
        for path in SOURCES.glob("linux-source-*")
        if (match := _ARCHIVE.fullmatch(path.name)) and path.is_file()
    }
    if version and version not in found:
        raise BuildFailed(f"no {SOURCES}/linux-source-{version}.tar.*: install linux-source-{version}")
    if not found:
        where = f"{SOURCES}/linux-source-*.tar.*"
        raise BuildFailed(f"no {where}: install Debian's package linux-source-6.1 or a later one")
    newest = max(found, key=lambda one: tuple(map(int, one.split("."))))
    return found[version] if version else found.get(_PREFERRED, found[newest])


def _kernel_entry(archive: Path, parts: Sequence[str | Path]) -> str:
    status = archive.stat()
    identity = f"{archive.name} {status.st_size} {int(status.st_mtime)}"
    compiler = output(_CC, "--version") + output(f"{_PREFIX}ld", "--version")
    return f"linux-kernel-{store.content_key([identity, compiler, *parts])}"


def _base(defconfig: str) -> str | Path:
    """Return what a configuration is based on: the name of the source's own, or the bundled guest's file."""
    return defconfig or guest_sources("linux") / "config"


def cached_kernel(*more: Path, defconfig: str = "", version: str = "", boot: str = "") -> Path | None:
    """Return the built kernel's path, or None when the cache has none for what it is made from.

    ``more`` are the files of `build_kernel`, in its order.
    """
    entry = _kernel_entry(source(version), [_base(defconfig), *more, *filter(None, [boot])])
    path = store.directory() / entry / (boot or "vmlinux")
    return path if path.exists() else None


def build_kernel(
    progress: Callable[[str], None],
    changed: Sequence[Path] = (),
    modules: Sequence[Path] = (),
    *,
    defconfig: str = "",
    version: str = "",
    boot: str = "",
) -> Path:
    """Return the path of ``vmlinux`` (ELF with symbols; its ``config`` beside it), built when not cached.

    Where it is configured to have debug information, that is in ``vmlinux.debug`` beside it.
    ``changed`` are files of options that are to be otherwise than the bundled guest's, or than in
    ``defconfig`` (one of the source's own configurations), or than in the files before. Of each of
    ``modules`` (C files) a kernel module is made, beside ``vmlinux``. ``version`` is the source's, where
    not any will do.
    """
    archive, base = source(version), _base(defconfig)
    more = [*changed, *modules]

    def make(result: Path, scratch: Path) -> None:
        started = time.monotonic()
        progress(f"linux: unpacking {archive.name}")
        unpack(archive, scratch, () if boot else _TREES)
        progress("linux: configuring")
        ours = reduce(with_options, (part.read_text() for part in changed), "")
        given = base if isinstance(base, Path) else scratch / "arch/powerpc/configs" / base
        wanted = with_options(given.read_text(), ours)
        (scratch / "kgdbpatch.config").write_text(wanted)
        rest = "alldefconfig" if defconfig else "allnoconfig"
        _make(scratch, [rest], progress, KCONFIG_ALLCONFIG=str(scratch / "kgdbpatch.config"))
        missing = missing_options(ours if defconfig else wanted, (scratch / ".config").read_text())
        if missing and (unknown := unknown_options(scratch, missing)):
            progress(f"linux: this version has no {', '.join(unknown)}")
            missing = [option for option in missing if option not in unknown]
        if missing:
            raise BuildFailed(f"the kernel's configuration did not take {', '.join(missing)}")
        _make(scratch, [f"-j{len(os.sched_getaffinity(0))}", "vmlinux", *filter(None, [boot])], progress)
        shutil.copyfile(scratch / ".config", result / "config")
        if boot:
            shutil.copyfile(scratch / "arch/powerpc/boot" / f"{boot}.elf", result / boot)
        made = [scratch / "vmlinux", *_make_modules(scratch, modules, progress)]
        for one in made:
            shutil.copyfile(one, result / one.name)
        if "CONFIG_DEBUG_INFO=y" in (result / "config").read_text().splitlines():
            _part_debug_information([result / one.name for one in made])
        progress(f"linux: kernel built in {time.monotonic() - started:.0f} s")

    entry = _kernel_entry(archive, [base, *more, *filter(None, [boot])])
    return store.made_once(entry, make, progress, SCRATCH) / (boot or "vmlinux")


def unpack(archive: Path, place: Path, unread: Sequence[str] = ()) -> None:
    """Unpack a kernel's source, without what our configurations do not read, and without files ``unread``."""
    top = _ARCHIVE_SUFFIX.sub("", archive.name)
    excludes = [f"--exclude={pattern.format(top=top)}" for pattern in (*_UNREAD, *unread)]
    output("tar", "-xf", str(archive), "-C", str(place), "--strip-components=1", "--wildcards", *excludes)


def _part_debug_information(files: Sequence[Path]) -> None:
    """Take the debug information out of files; put that of the first one beside it, in its ``.debug``."""
    apart = ("--only-keep-debug", "--compress-debug-sections")
    output(_OBJCOPY, *apart, str(files[0]), f"{files[0]}.debug")
    for one in files:
        output(_OBJCOPY, "--strip-debug", str(one))


def with_options(config: str, changed: str) -> str:
    """Return a configuration in which the options that ``changed`` names are as it says."""
    option = re.compile(r"^(CONFIG_\w+)=.*\n?", re.MULTILINE)
    names = {match[1] for match in option.finditer(changed)}
    kept = option.sub(lambda match: "" if match[1] in names else match[0], config)
    return f"{kept}\n{changed}"


def _make_modules(tree: Path, sources: Sequence[Path], progress: Callable[[str], None]) -> list[Path]:
    """Build modules for the kernel that was built in ``tree``."""
    if not sources:
        return []
    place = tree / "kgdbpatch-modules"
    place.mkdir()
    for source in sources:
        shutil.copyfile(source, place / source.name)
    (place / "Kbuild").write_text("".join(f"obj-m += {source.stem}.o\n" for source in sources))
    _make(tree, ["modules_prepare"], progress)
    # without all the kernel's own modules nobody knows which symbols it exports: told, and no error
    _make(tree, [f"M={place}", "modules"], progress, KBUILD_MODPOST_WARN="1")
    return [place / f"{source.stem}.ko" for source in sources]


def missing_options(wanted: str, got: str) -> list[str]:
    """Return the options of the fragment ``wanted`` that the configuration ``got`` has otherwise."""
    option = re.compile(r"^(CONFIG_\w+)=(.*)$", re.MULTILINE)
    have = dict(option.findall(got))
    return [f"{name}={value}" for name, value in option.findall(wanted) if have.get(name, "n") != value]


def unknown_options(tree: Path, options: Sequence[str]) -> list[str]:
    """Return those of the options (``CONFIG_NAME=value``) that the source in ``tree`` does not know."""
    texts = (path.read_text(errors="replace") for path in tree.rglob("Kconfig*") if path.is_file())
    known = {name for text in texts for name in _DEFINED.findall(text)}
    return [option for option in options if option.partition("=")[0].removeprefix("CONFIG_") not in known]


def build_initramfs(progress: Callable[[str], None], modules: Sequence[Path] = (), cpu: str = "750") -> Path:
    """Return the path of the initramfs (init, device nodes, ``modules``), built when not cached.

    ``cpu`` is what GCC calls the one that init runs on.
    """
    sources = guest_sources("linux")
    programs = sorted(sources.glob("*.c"))
    flags = [*_INIT_FLAGS, f"-mcpu={cpu}"]
    parts: list[str | bytes | Path] = [output(_CC, "--version"), " ".join(flags)]
    parts += [Path(__file__), Path(__file__).with_name("cpio.py"), *programs, *sorted(sources.glob("*.h"))]
    parts += modules

    def make(result: Path, scratch: Path) -> None:
        progress("linux: building init")
        init = scratch / "init"
        output(_CC, *flags, "-o", str(init), *map(str, programs))
        archive = newc(
            [
                *(directory(name) for name in ("dev", "proc", "sys", "tmp", *(["lib"] if modules else []))),
                device("dev/console", 5, 1),
                device("dev/kmsg", 1, 11),
                device("dev/null", 1, 3, 0o666),
                file("init", init.read_bytes(), 0o755),
                *(file(f"lib/{module.name}", module.read_bytes()) for module in modules),
            ]
        )
        (result / "initramfs.cpio.gz").write_bytes(gzip.compress(archive, mtime=0))

    return (
        store.made_once(f"linux-initramfs-{store.content_key(parts)}", make, progress) / "initramfs.cpio.gz"
    )


def _make(tree: Path, arguments: Sequence[str], progress: Callable[[str], None], **variables: str) -> None:
    """Run make in the kernel's source ``tree``; end it and all it started when interrupted."""
    command = ["make", "ARCH=powerpc", f"CROSS_COMPILE={_PREFIX}", *arguments]
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    process = subprocess.Popen(
        command,
        cwd=tree,
        env={**environment, **_FIXED, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    said: list[str] = []
    try:
        assert process.stdout is not None  # PIPE above
        for line in process.stdout:
            said.append(line.rstrip())
            if len(said) % _STEPS_PER_LINE == 0:
                progress(f"linux: {len(said)} build steps done")
        if process.wait() != 0:
            raise BuildFailed(f"the kernel's build failed: {reason(said)}")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def reason(said: Sequence[str]) -> str:
    """Return the line that says why a build failed: it names an error, or came before make's own words."""
    ours = [line for line in said if not re.match(r"make(\[\d+\])?: .*\bError \d+", line)]
    named = (line for line in ours if re.search(r"\berror\b|\*\*\*", line, re.IGNORECASE))
    return next(named, ours[-1] if ours else "no output")
