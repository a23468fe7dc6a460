"""An update's objects as one that can be linked into a kernel, with the shadow data that it asks for."""

from __future__ import annotations

import io
import tempfile
from importlib.resources import files
from pathlib import Path

from elftools.elf.elffile import ELFFile

from kgdbpatch.toolchain.compile import CObject, compile_c
from kgdbpatch.toolchain.gnu import complaint, run
from kgdbpatch.toolchain.init_calls import has_exit_calls, has_init_calls
from kgdbpatch.toolchain.objects import called, is_indirect, names, undefined
from kgdbpatch.updates.archive import Update
from kgdbpatch.updates.elf_object import ElfObject

__all__ = ["BUG_LOOKUP", "FAULT_LOOKUP", "NEXT_BUG", "NEXT_LOOKUP", "has_table", "linkable"]

# of faults.c: functions that take the places of Linux', and what these are called by
FAULT_LOOKUP, NEXT_LOOKUP = "kgp_fault_lookup", "kgp_next_lookup"
BUG_LOOKUP, NEXT_BUG = "kgp_find_bug", "kgp_next_find_bug"
_SHADOW = frozenset({"kgp_shadow", "kgp_shadow_get", "kgp_shadow_free"})


def linkable(update: Update, path: Path, target: str) -> CObject:
    """Return the objects of an update, read from ``path``, as one for the CPU ``target``.

    Raises `BadPatch` where they do not go together.
    """
    parts = dict(update.objects)
    if has_table(update, "__ex_table") or has_table(update, "__bug_table"):
        text = files("kgdbpatch.updates").joinpath("faults.c").read_text()
        parts["faults.o"] = compile_c(text, entry=FAULT_LOOKUP, target=target).data
    wanted = {name for data in parts.values() for name in undefined(data)}
    spelt = next(
        (prefix for prefix in ("", "_") if any(f"{prefix}{name}" in wanted for name in _SHADOW)), None
    )
    if spelt is not None:
        shadow = update.manifest.shadow
        text = files("kgdbpatch.updates").joinpath("shadow.c").read_text()
        room = [f"KGP_SHADOW_OBJECTS={shadow.objects}", f"KGP_SHADOW_BYTES={shadow.bytes}"]
        made = compile_c(text, entry="kgp_shadow", target=target, defines=room).data
        parts["shadow.o"] = _prefixed(made, spelt, path) if spelt else made
    data = _joined(parts, path) if len(parts) > 1 else next(iter(parts.values()))
    file = ELFFile(io.BytesIO(data))
    found = sorted(names(file), key=lambda name: name.name)
    needed = tuple(name.name for name in found if not name.defined)
    functions = tuple(name.name for name in found if name.function)
    return CObject(
        path=path,
        data=data,
        entry=next((name.name for name in found if name.defined), ""),
        functions=functions,
        needed=needed,
        called=called(file) & frozenset(needed),
        weak=frozenset(name.name for name in found if name.weak and not name.defined),
        indirect=is_indirect(file),
        target=target,
        begins=has_init_calls(file),
        ends=has_exit_calls(file),
    )


def _prefixed(data: bytes, prefix: str, path: Path) -> bytes:
    """Return an object with a prefix before each name."""
    with tempfile.TemporaryDirectory(prefix="kgdbpatch-") as folder:
        made = Path(folder, "made.o")
        made.write_bytes(data)
        done = run("objcopy", f"--prefix-symbols={prefix}", made, about=str(path))
        if done.returncode:
            raise complaint(done.stderr, str(path), "objcopy")
        return made.read_bytes()


def has_table(update: Update, name: str) -> bool:
    """Tell whether an update's code has rows in one of Linux' tables, of faults or of bugs."""
    objects = (ElfObject.parse(data, path) for path, data in update.objects.items())
    return any(one.named(name) is not None for one in objects)


def _joined(parts: dict[str, bytes], path: Path) -> bytes:
    with tempfile.TemporaryDirectory(prefix="kgdbpatch-") as folder:
        places = []
        for number, data in enumerate(parts.values()):
            places.append(Path(folder, f"{number}.o"))
            places[-1].write_bytes(data)
        made = Path(folder, "joined.o")
        done = run("ld", "-melf32ppc", "-r", "--no-warn-mismatch", "-o", made, *places, about=str(path))
        if done.returncode:
            raise complaint(done.stderr, str(path), "ld")
        return made.read_bytes()
