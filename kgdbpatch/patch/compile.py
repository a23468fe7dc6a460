"""Compile payloads written in C and link them against the kernel that runs.

The function gets the registers r3..r10 as they are at the site, so at a function's entry its
parameters are that function's own arguments. Kernel code runs with floating point off: neither
FP nor AltiVec instructions may come out.
"""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kgdbpatch.errors import BadPatch, Misuse, UnknownSymbol
from kgdbpatch.image import Image
from kgdbpatch.isa import encode
from kgdbpatch.isa.abi import ABI, SYSV
from kgdbpatch.isa.decode import Kind, decode
from kgdbpatch.isa.registers import FPRS, mask
from kgdbpatch.patch.gnu import complaint, link_script, run

__all__ = ["CObject", "Linked", "compile_c", "link"]

_log = logging.getLogger(__name__)

_FLAGS = (
    *("-std=gnu17", "-O2", "-mcpu=750", "-mbig-endian", "-m32"),
    *("-ffreestanding", "-fno-builtin", "-nostdinc"),
    *("-msoft-float", "-mno-altivec", "-msdata=none", "-G0", "-mno-relocatable"),
    *("-fno-pic", "-fno-pie", "-fno-common", "-fno-stack-protector", "-fno-strict-aliasing"),
    *("-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-fno-exceptions", "-fno-ident"),
    *("-fno-stack-check", "-fcf-protection=none", "-fno-reorder-functions"),
    *("-fdiagnostics-color=never", "-fno-diagnostics-show-caret"),
    *("-Wall", "-Werror=implicit-function-declaration", "-Werror=implicit-int", "-Werror=int-conversion"),
)
_ALIGNMENT = 16
_REACH_MARGIN = 1 << 20  # a payload larger than that is refused by the linker, not miscompiled


@dataclass(frozen=True, slots=True)
class CObject:
    """A compiled, unlinked C payload: the object file, its entry function, the names it needs.

    ``called`` are those of the needed names that are called directly.
    """

    path: Path
    data: bytes
    entry: str
    functions: tuple[str, ...]
    needed: tuple[str, ...]
    called: frozenset[str]


@dataclass(frozen=True, slots=True)
class Linked:
    """A payload at its address; ``code`` is text and read-only data, then writable, zeroed data.

    ``text_size`` bytes are instructions, ``constant_size`` bytes never change once written.
    """

    address: int
    code: bytes
    text_size: int
    constant_size: int
    entry: int
    symbols: dict[str, int]


def compile_c(path: Path, *, entry: str | None = None, include_dirs: Sequence[Path] = ()) -> CObject:
    """Compile a C file; raise `BadPatch` with the compiler's message or about the entry function.

    The entry is ``entry``, else the function named like the file, else the only global one.
    """
    path = Path(path)
    if not path.is_file():
        raise BadPatch(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    with tempfile.TemporaryDirectory(prefix="kgdbpatch-") as directory:
        target = Path(directory) / "payload.o"
        done = run(
            "gcc",
            *_FLAGS,
            *("-isystem", _compiler_headers(), "-c", "-x", "c", "-o", target),
            *(f"-I{include}" for include in include_dirs),
            path,
            about=str(path),
        )
        if done.returncode or not target.exists():
            raise complaint(done.stderr, str(path), "gcc")
        for line in done.stderr.splitlines():
            _log.warning("%s", line)
        functions, exported, needed = _names(target, path)
        called = _called(target, path)
        data = target.read_bytes()
    return CObject(
        path=path,
        data=data,
        entry=_entry(path, entry, functions, exported),
        functions=functions,
        needed=needed,
        called=called & frozenset(needed),
    )


def _compiler_headers() -> str:
    """Return the directory of the compiler's own headers: ``stdint.h``, ``stdarg.h``, …"""
    return run("gcc", "-print-file-name=include", about="gcc").stdout.strip()


def _names(target: Path, path: Path) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return the functions that an object defines, the global ones among them, the undefined names."""
    done = run("nm", "--format=posix", target, about=str(path))
    if done.returncode:
        raise complaint(done.stderr, str(path), "nm")
    kinds = [line.split()[:2] for line in done.stdout.splitlines()]
    return (
        tuple(name for name, kind in kinds if kind in "Tt"),
        tuple(name for name, kind in kinds if kind == "T"),
        tuple(name for name, kind in kinds if kind in "Uwv"),
    )


def _called(target: Path, path: Path) -> frozenset[str]:
    done = run("objdump", "-r", target, about=str(path))
    rows = [line.split() for line in done.stdout.splitlines()]
    return frozenset(row[2].split("+")[0] for row in rows if len(row) == 3 and row[1] == "R_PPC_REL24")


def _entry(path: Path, wanted: str | None, functions: tuple[str, ...], exported: tuple[str, ...]) -> str:
    listed = ", ".join(functions) or "none"
    if wanted is not None:
        if wanted not in functions:
            raise BadPatch(f"{path}: no function '{wanted}'; there are: {listed}")
        return wanted
    if path.stem in functions:
        return path.stem
    if len(exported) == 1:
        return exported[0]
    if not exported:
        raise BadPatch(f"{path}: no function to call; make one global (not static)")
    raise BadPatch(f"{path}: which function is the entry? name it with --entry: {', '.join(exported)}")


def link(compiled: CObject, address: int, resolve: Callable[[str], int], *, abi: ABI = SYSV) -> Linked:
    """Link a compiled payload for ``address`` against the kernel's symbols.

    ``resolve`` gives a kernel symbol's address or raises `UnknownSymbol`. ``abi`` is the kernel's:
    calls out of branch reach, and all calls to a kernel whose functions want a larger frame than
    the compiler makes, go through veneers in the payload.
    Raises `BadPatch` for names that neither the kernel nor the compiler's library has.
    """
    if address % _ALIGNMENT or not 0 <= address < 1 << 32:
        raise Misuse(f"0x{address:x} is no place for a payload: not a multiple of {_ALIGNMENT}")
    about = str(compiled.path)
    found: dict[str, int] = {}
    missing: dict[str, Exception] = {}
    for name in compiled.needed:
        try:
            found[name] = resolve(name)
        except (UnknownSymbol, Misuse) as error:
            if _is_floating(name):
                raise BadPatch(
                    f"{about}: floating-point arithmetic ({name}), which is off in kernel code"
                ) from error
            missing[name] = error
    veneers = {
        n: found.pop(n) for n in sorted(compiled.called & found.keys()) if _far(found[n], address, abi)
    }
    with tempfile.TemporaryDirectory(prefix="kgdbpatch-") as directory:
        place = Path(directory)
        (place / "payload.o").write_bytes(compiled.data)
        (place / "script").write_text(link_script(address, found, _layout(address, veneers, abi)))
        done = run(
            "ld",
            *("-melf32ppc", "-N", "--no-relax", "--no-warn-rwx-segments", "-z", "noexecstack", "-e", "0"),
            *(
                "--orphan-handling=error",
                "--no-warn-mismatch",
                "-T",
                place / "script",
                "-o",
                place / "payload",
            ),
            *(place / "payload.o", *([_support_library()] if missing else [])),
            about=about,
        )
        if done.returncode:
            for name, cause in missing.items():
                if f"`{name}'" in done.stderr:
                    raise BadPatch(f"{about}: {cause}") from cause
            output = re.sub(r"(?m)^\S*-ld: (error: )?", "", done.stderr)
            raise complaint(output.replace(str(place / "payload.o"), about), about, "ld")
        return _take(compiled, address, Image.load(place / "payload"))


def _support_library() -> Path:
    """Return the compiler's own library: 64-bit division and the like."""
    return Path(run("gcc", "-m32", "-print-libgcc-file-name", about="gcc").stdout.strip())


def _is_floating(name: str) -> bool:
    """Tell the routines of soft floating point by their names: ``__adddf3``, ``__floatsidf``, …"""
    return bool(re.fullmatch(r"__[a-z]+([sdt]f[23]?|[sdt]f[sd]i|[sd]i[sdt]f|[sdt]f[sdt]f2)", name))


def _far(target: int, address: int, abi: ABI) -> bool:
    """Tell whether a call needs a veneer: out of reach, or the callee wants a larger frame than ours."""
    reach = encode.branch_reaches(address, target) and encode.branch_reaches(address + _REACH_MARGIN, target)
    return not reach or abi.linkage > SYSV.linkage


def _veneer(target: int, abi: ABI) -> list[int]:
    """Return words that call ``target`` for us and keep arguments and results as they are.

    A function of Darwin's convention stores CR, LR and its register arguments into its caller's
    frame, where code for System V keeps its own variables: it gets a frame in between. Arguments
    beyond the eighth word do not pass.
    """
    go = [*encode.load_address(12, target), encode.mtctr(12)]
    if abi.linkage <= SYSV.linkage:
        return [*go, encode.bctr()]
    frame = -(-abi.linkage // 16) * 16
    enter = [encode.mflr(0), encode.stw(0, SYSV.lr_offset, 1), encode.stwu(1, -frame, 1)]
    leave = [encode.lwz(0, frame + SYSV.lr_offset, 1), encode.mtlr(0), encode.addi(1, 1, frame), encode.blr()]
    return [*enter, *go, encode.bctrl(), *leave]


def _layout(address: int, veneers: dict[str, int], abi: ABI) -> Iterator[str]:
    yield f".text 0x{address:x} : {{ *(.text .text.*) . = ALIGN(4);"
    for name, target in veneers.items():
        yield f'"{name}" = .;'
        yield " ".join(f"LONG(0x{word:08x})" for word in _veneer(target, abi))
    yield "}"
    yield ".rodata : { *(.rodata .rodata.* .sdata2 .sdata2.*) }"
    yield f". = ALIGN({_ALIGNMENT});"
    yield ".data : { *(.data .data.* .sdata .sdata.*) *(.bss .bss.* .sbss .sbss.* COMMON) }"
    yield ".linker : { *(.glink .iplt .plt .got .rela.iplt .branch_lt) }"
    yield 'ASSERT(SIZEOF(.linker) == 0, "the payload needs a table of the dynamic linker")'


def _take(compiled: CObject, address: int, image: Image) -> Linked:
    by_name = {section.name: section for section in image.sections if section.size}
    text = by_name[".text"]
    end = max(section.end for section in by_name.values())
    for index, word in enumerate(image.words(text)):
        _check(compiled, image, int(word), text.address + 4 * index)
    return Linked(
        address=address,
        code=b"".join(
            image.read(section.address, section.size).ljust(following - section.address, b"\0")
            for section, following in zip(
                by_name.values(), [*(s.address for s in by_name.values()), end][1:], strict=True
            )
        ),
        text_size=text.size,
        constant_size=by_name[".data"].address - address if ".data" in by_name else end - address,
        entry=next(s.address for s in image.symbols if s.name == compiled.entry),
        symbols={s.name: s.address for s in image.symbols if s.section},
    )


def _check(compiled: CObject, image: Image, word: int, address: int) -> None:
    instruction = decode(word, address)
    where = f"{compiled.path}: {image.symbolize(address)}: '{instruction.text}'"
    if not instruction.known or instruction.kind is Kind.FOREIGN:
        raise BadPatch(f"{where} is no instruction of this CPU")
    moves_data = instruction.kind in (Kind.ARITHMETIC, Kind.LOAD, Kind.STORE)
    if moves_data and (instruction.defs | instruction.uses) & (FPRS | mask("fpscr")):
        raise BadPatch(f"{where} uses floating point, which is off in kernel code")
