"""Link compiled payloads for their place in the guest, against the symbols of its kernel."""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from kgdbpatch.errors import BadPatch, Misuse, UnknownSymbol
from kgdbpatch.isa import encode
from kgdbpatch.isa.abi import ABI, SYSV
from kgdbpatch.isa.decode import Kind, decode
from kgdbpatch.isa.registers import FPRS, mask
from kgdbpatch.toolchain.admitted import DROPPED, TEXT
from kgdbpatch.toolchain.gnu import link_script, run
from kgdbpatch.toolchain.init_calls import ARRAYS, InitCall, InitCalls, taken_marks
from kgdbpatch.toolchain.init_calls import layout as init_layout
from kgdbpatch.toolchain.objects import without_calls
from kgdbpatch.toolchain.relocate import Relocation, moved, relocations, taken
from kgdbpatch.toolchain.support import MODELS, SUPPORTED, library, of_the_library, support_object
from kgdbpatch.toolchain.unlinked import unlinked

if TYPE_CHECKING:
    from kgdbpatch.toolchain.compile import CObject

__all__ = ["BUG_TABLE", "FAULT_TABLE", "ORIGINAL", "ORIGINAL_END", "ORIGINAL_ROOM", "Linked", "link"]

ORIGINAL = "kgp_original"  # what a function that takes another's place calls that by
ORIGINAL_END = "__kgdbpatch_original_end"
ORIGINAL_ROOM = 24  # words
BUG_TABLE = ("__kgdbpatch_bug_table", "__kgdbpatch_bug_table_end")  # Linux: what traps mean; written to
FAULT_TABLE = ("__kgdbpatch_fault_table", "__kgdbpatch_fault_table_end")  # Linux: where faults go on

_ALIGNMENT = 16
_MARKS = ("__kgdbpatch_text_end", "__kgdbpatch_constant_end", "__kgdbpatch_end")
# The routines of soft floating point: ``__adddf3``, ``__floatsidf``, …
_FLOATING = re.compile(r"__[a-z]+([sdt]f[23]?|[sdt]f[sd]i|[sd]i[sdt]f|[sdt]f[sdt]f2)")
_DEBUG = (".debug_info", ".debug_abbrev", ".debug_str", ".debug_line_str", ".debug_str_offsets")
_REACH_MARGIN = 1 << 20  # a payload larger than that is refused by the linker, not miscompiled


@dataclass(frozen=True, slots=True)
class Linked:
    """A payload at its address; ``code`` is text and read-only data, then writable, zeroed data; in bytes.

    ``file`` is as it was linked, wherever it was moved since.
    """

    address: int
    code: bytes
    text_size: int
    constant_size: int
    entry: int
    symbols: dict[str, int]
    file: bytes  # the linker's own, with what its debug information says of names and types
    _relocations: tuple[Relocation, ...]
    _alignment: int
    _calls: tuple[tuple[int, bool], ...]  # of the kernel: address, and whether through a veneer
    _abi: ABI
    init_calls: InitCalls | None = None  # where they are, of a payload that has any

    @property
    def first(self) -> tuple[InitCall, ...]:
        """What is called before it can be reached, in this order."""
        return () if self.init_calls is None else self.init_calls.first(self.code, self.symbols)

    @property
    def last(self) -> tuple[int, ...]:
        """The addresses of what is called when nobody is in it any more, in this order."""
        return () if self.init_calls is None else self.init_calls.last(self.code, self.symbols)

    @property
    def hands_out(self) -> bool:
        """Whether it has the address of a function of its own, which others may then call; unmoved."""
        return taken(self._relocations, self.address, self.address + self.text_size)

    def moved(self, address: int) -> Linked | None:
        """Return the payload as it is at another address; None where it must be linked anew for that."""
        shift = address - self.address
        if shift % self._alignment or any(_far(at, address, self._abi) != far for at, far in self._calls):
            return None
        code = moved(self.code, self._relocations, self.address, address)
        if code is None:
            return None
        symbols = {name: at + shift for name, at in self.symbols.items()}
        return replace(self, address=address, code=code, entry=self.entry + shift, symbols=symbols)


def link(
    compiled: CObject,
    address: int,
    resolve: Callable[[str], int],
    *,
    abi: ABI = SYSV,
    original: bool = False,
    kernels: bool = False,
    staged: Callable[[], bool] = lambda: False,
) -> Linked:
    """Link a compiled payload for ``address`` against the kernel's symbols; `BadPatch` for names nobody has.

    Calls out of branch reach, and all to a kernel (``abi``) whose functions want a larger frame than the
    compiler makes, go through veneers in the payload. ``resolve`` raises `UnknownSymbol`.
    With ``original`` it gets a function `ORIGINAL`, whose last `ORIGINAL_ROOM` words are to be filled.
    ``kernels``: it was compiled as the kernel itself is, for the units that its own functions use.
    ``staged``, asked when names are resolved, tells whether it gets `InitCalls.stage` in any case.
    """
    if address % _ALIGNMENT or not 0 <= address < 1 << 32:
        raise Misuse(f"0x{address:x} is no place for a payload: not a multiple of {_ALIGNMENT}")
    about = str(compiled.path)
    if compiled.darwin and abi.linkage <= SYSV.linkage:
        raise BadPatch(f"{about}: has Darwin's stack frames, and this kernel is no Darwin")
    found: dict[str, int] = {}
    missing: dict[str, Exception] = {}
    for name in compiled.needed:
        if of_the_library(name) or name in (*FAULT_TABLE, *BUG_TABLE) or (original and name == ORIGINAL):
            continue
        try:
            found[name] = resolve(name)
        except (UnknownSymbol, Misuse) as error:
            if _FLOATING.fullmatch(name):
                raise BadPatch(
                    f"{about}: floating-point arithmetic ({name}), which is off in kernel code"
                ) from error
            if name not in compiled.weak:
                missing[name] = error
    own = frozenset(name for name in SUPPORTED if name in missing)
    calls = {name: _far(found[name], address, abi) for name in sorted(compiled.called & found.keys())}
    reached = tuple((found[name], far) for name, far in calls.items())
    veneers = {name: found.pop(name) for name, far in calls.items() if far}
    with tempfile.TemporaryDirectory(prefix="kgdbpatch-") as directory:
        place = Path(directory)
        objects = [place / "payload.o"]
        objects[0].write_bytes(without_calls(compiled.data, compiled.weak - found.keys() - veneers.keys()))
        if own:
            objects.append(place / "support.o")
            objects[1].write_bytes(support_object(own, compiled.target))
        (place / "script").write_text(
            link_script(
                address, found, _layout(compiled, address, veneers, abi, original=original, staged=staged())
            )
        )
        done = run(
            "ld",
            *("-melf32ppc", "-N", "-e", "0", "--no-relax", "--emit-relocs"),
            *("--no-warn-rwx-segments", "-z", "noexecstack"),
            *("-z", "nodynamic-undefined-weak"),  # a weak name that nobody has is 0
            *("--orphan-handling=error", "--no-warn-mismatch"),
            *("-T", place / "script", "-o", place / "payload"),
            *objects,
            *([library()] if len(found) + len(veneers) < len(compiled.needed) else []),
            about=about,
        )
        if done.returncode:
            output = done.stderr.replace(str(place / "payload.o"), about)
            raise unlinked(output, about, missing, found)
        linked = _take(compiled, address, (place / "payload").read_bytes(), reached, abi)
    for offset in range(0, 0 if kernels else linked.text_size, 4):
        word = int.from_bytes(linked.code[offset : offset + 4], "big")
        _check(compiled, linked.symbols, word, address + offset)
    return linked


def _far(target: int, address: int, abi: ABI) -> bool:
    """Tell whether a call needs a veneer: out of reach, or the callee wants a larger frame than ours."""
    reach = encode.branch_reaches(address, target) and encode.branch_reaches(address + _REACH_MARGIN, target)
    return not reach or abi.linkage > SYSV.linkage


def _veneer(target: int, abi: ABI) -> list[int]:
    """Return words that call ``target`` for us and keep arguments and results as they are.

    A Darwin function stores into its caller's frame: it gets one between. Only eight words of arguments pass.
    """
    go = [*encode.load_address(12, target), encode.mtctr(12)]
    if abi.linkage <= SYSV.linkage:
        return [*go, encode.bctr()]
    enter, leave = _frame(abi)
    return [*enter, *go, encode.bctrl(), *leave]


def _frame(abi: ABI) -> tuple[list[int], list[int]]:
    """Return the words before and after a call that needs a larger frame between."""
    frame = -(-abi.linkage // 16) * 16
    enter = [encode.mflr(0), encode.stw(0, SYSV.lr_offset, 1), encode.stwu(1, -frame, 1)]
    leave = [encode.lwz(0, frame + SYSV.lr_offset, 1), encode.mtlr(0), encode.addi(1, 1, frame), encode.blr()]
    return enter, leave


def _longs(words: list[int]) -> str:
    return " ".join(f"LONG(0x{word:08x})" for word in words)


def _original(abi: ABI) -> list[int]:
    """Return the words of `ORIGINAL`: a frame where the kernel's functions want one, room for the rest."""
    room = [encode.nop()] * ORIGINAL_ROOM
    if abi.linkage <= SYSV.linkage:
        return room
    enter, leave = _frame(abi)
    at = 4 * len(enter)
    return [*enter, encode.bl(at, at + 4 * (1 + len(leave))), *leave, *room]


def _layout(
    compiled: CObject,
    address: int,
    veneers: dict[str, int],
    abi: ABI,
    *,
    original: bool = False,
    staged: bool = False,
) -> Iterator[str]:
    yield f".text 0x{address:x} : {{ *(.text .text.* {' '.join(TEXT)}) . = ALIGN(4);"
    if original:
        yield f'"{ORIGINAL}" = .; {_longs(_original(abi))} "{ORIGINAL_END}" = .;'
    for name, target in veneers.items():
        yield f'"{name}" = .;'
        yield _longs(_veneer(target, abi))
    yield f"{_MARKS[0]} = .; }}"
    first, last = FAULT_TABLE
    yield ".rodata : { *(.rodata .rodata.* .sdata2 .sdata2.* .init.rodata .init.rodata.*) . = ALIGN(4);"
    yield f"{first} = .; *(__ex_table) {last} = .; *(__jump_table .static_call_sites) }}"
    begins = compiled.begins or staged
    tables, stage = init_layout(stage=int(not begins)) if begins or compiled.ends else ([], "")
    yield from tables
    yield f"{_MARKS[1]} = SIZEOF(.data) ? ALIGN({_ALIGNMENT}) : .;"
    yield f". = {_MARKS[1]};"
    first, last = BUG_TABLE
    yield f".data : {{ {stage} {first} = .; *(__bug_table) {last} = .;"
    yield "*(.init.data .init.data.* .exit.data .exit.data.*)"
    yield "*(.data .data.* .sdata .sdata.* .got2) *(.bss .bss.* .sbss .sbss.* COMMON) }"
    yield f"{_MARKS[2]} = .;"
    yield ".linker : { *(.glink .iplt .plt .got .rela.* .branch_lt) }"
    for name in _DEBUG:
        yield f"{name} 0 : {{ *({name}) }}"
    yield f"/DISCARD/ : {{ *(.debug_* .rela.debug_* .kgp.* {' '.join(DROPPED)}) }}"
    yield 'ASSERT(SIZEOF(.linker) == 0, "the payload needs a table of the dynamic linker")'


def _take(
    compiled: CObject, address: int, linked: bytes, calls: tuple[tuple[int, bool], ...], abi: ABI
) -> Linked:
    file = ELFFile(io.BytesIO(linked))
    table: Any = file.get_section_by_name(".symtab")
    symbols, absolute = dict[str, int](), dict[str, int]()
    for symbol in table.iter_symbols():
        if symbol.name and symbol["st_info"]["type"] not in ("STT_SECTION", "STT_FILE"):
            place = {"SHN_ABS": absolute, "SHN_UNDEF": None}.get(symbol["st_shndx"], symbols)
            if place is not None:
                place[symbol.name] = symbol["st_value"]
    for mark in (*FAULT_TABLE, *BUG_TABLE):
        symbols.pop(mark, None)
    init_calls = taken_marks(symbols, address)
    text, constant, end = (symbols.pop(mark) - address for mark in _MARKS)
    code, alignment = bytearray(end), _ALIGNMENT
    for section in file.iter_sections():
        if section["sh_flags"] & SH_FLAGS.SHF_ALLOC and section["sh_size"]:
            alignment = max(alignment, section["sh_addralign"])
            if section["sh_type"] in ("SHT_PROGBITS", *ARRAYS):
                start = section["sh_addr"] - address
                code[start : start + section["sh_size"]] = section.data()
    return Linked(
        address=address,
        code=bytes(code),
        text_size=text,
        constant_size=constant,
        entry=symbols[compiled.entry],
        symbols=symbols,
        file=linked,
        _relocations=tuple(relocations(file, address)),
        _alignment=alignment,
        _calls=calls,
        _abi=abi,
        init_calls=init_calls,
    )


def _check(compiled: CObject, symbols: dict[str, int], word: int, address: int) -> None:
    instruction = decode(word, address, MODELS.get(compiled.target, ""))
    if instruction.vector or instruction.spe:
        what = f"uses {'SPE' if instruction.spe else 'AltiVec'}, which is off in kernel code"
    elif instruction.known and not instruction.foreign:
        moves_data = instruction.kind in (Kind.ARITHMETIC, Kind.LOAD, Kind.STORE)
        if not (moves_data and (instruction.defs | instruction.uses) & (FPRS | mask("fpscr"))):
            return
        what = "uses floating point, which is off in kernel code"
    else:
        what = "is no instruction of this CPU"
    function = max((at, name) for name, at in symbols.items() if at <= address)[1]
    raise BadPatch(f"{compiled.path}: {function}: '{instruction.text}' {what}")
