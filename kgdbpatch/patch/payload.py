"""What a user wants to run at a site: instructions, linked code, a kernel function, or just a count."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from kgdbpatch.errors import BadPatch, Refused
from kgdbpatch.isa import encode
from kgdbpatch.isa.abi import ABI
from kgdbpatch.isa.decode import Instruction, Kind, decode
from kgdbpatch.isa.registers import CRS, FPRS, GPRS, mask
from kgdbpatch.patch.balance import deepest
from kgdbpatch.patch.depth import LEAST_STACK, check_depth
from kgdbpatch.patch.registers import RegistersUse, argument

if TYPE_CHECKING:
    from kgdbpatch.patch.planned import First
    from kgdbpatch.types.model import Function as Prototype

__all__ = [
    "Payload",
    "Replacement",
    "asm_payload",
    "blob_payload",
    "call_payload",
    "call_words",
    "count_payload",
]

_XER = ("ca", "ov", "so", "string")
_CALL_REGISTER = 12
_MOST_WORDS = 60_000  # instructions in line: the patch table counts a body's in 16 bits


class Replacement(NamedTuple):
    """What a payload that takes a function's place says of its blob.

    ``entry(blob)`` is where the new function is, ``original`` the offset in bytes of the ``room`` words that
    are filled with what calls the old one, ``prototype()`` the new one's as its debug information has it, or
    None. Without ``prototype`` nobody compares.
    """

    entry: Callable[[int], int]
    original: int
    room: int
    prototype: Callable[[], Prototype | None] | None = None


class Payload(NamedTuple):
    """What a user wants to run at a site; it changes the registers of the mask ``clobbers``.

    ``emit(at, blob)`` returns the inline words (always as many), ``blob(at)`` what is placed behind the body
    and the size of its constant part. ``calls``: kernel code, so it may sleep; ``frame``: it wants a stack
    frame.
    """

    emit: Callable[[int, int], list[int]]  # (address of the words, address of the blob)
    clobbers: int
    calls: bool
    counted: bool
    blob: Callable[[int], tuple[bytes, int]] | None = None
    frame: bool = False
    sees_registers: bool = False  # it may read any register: all are as at the site when it starts
    warnings: tuple[str, ...] = ()  # what whoever asked for it should know
    called: frozenset[int] = frozenset()  # addresses of the kernel that it calls, or hands on to be called
    strays: bool = False  # it may call others besides
    replaces: Replacement | None = None  # it takes the place of a function, or of what a call calls
    instead: bool = False  # it runs instead of the site's instruction: what that writes, it writes
    sited: int | None = None  # the register that it finds the site's address in
    exits: frozenset[str] | None = None  # it runs at a function's exits, and changes these of its results
    begins: Callable[[int], int] | None = None  # where it is called at the entry, for a blob's address
    registers: RegistersUse | None = None  # it is given the address of them all (patch/registers.py)
    note: Callable[[int], bytes] | None = None  # what is kept of its names, packed, for a blob's address
    uses: bool = False  # it was linked against names of other patches
    hands_out: bool = False  # it takes the address of a function of its own
    first: Callable[[int], First] | None = (
        None  # what is called before it can be reached, for a blob's address
    )


def call_words(at: int, to: int) -> list[int]:
    """Return instructions at ``at`` that call ``to``; always as many for those that are as far."""
    if encode.branch_reaches(at, to):
        return [encode.bl(at, to)]
    if encode.absolute_reaches(to):
        return [encode.bla(to)]
    return [*encode.load_address(_CALL_REGISTER, to), encode.mtctr(_CALL_REGISTER), encode.bctrl()]


def _volatile(abi: ABI) -> int:
    return abi.volatile & ~FPRS & ~mask("fpscr")


def call_payload(target: int, abi: ABI) -> Payload:
    """Return a payload that calls the kernel function at ``target``."""
    return Payload(
        emit=lambda at, _blob: call_words(at, target),
        clobbers=_volatile(abi),
        calls=True,
        counted=True,
        frame=True,
        called=frozenset({target}),
    )


def blob_payload(
    link: Callable[[int], tuple[bytes, int, int]],
    abi: ABI,
    text: Sequence[int] | None = None,
    *,
    called: frozenset[int] = frozenset(),
    strays: bool = True,
    warnings: tuple[str, ...] = (),
    registers: RegistersUse | None = None,
) -> Payload:
    """Return a payload that calls linked code; ``link(at)`` returns (bytes, constant size, entry).

    Where its instructions (``text``) call nothing of the kernel, only what they change is kept. With
    ``registers`` it is given the address of all registers of the site.
    """
    clobbers, frame = _own_effects(text, abi) if text is not None else (None, True)
    first = [] if registers is None else [argument(abi)]
    return Payload(
        emit=lambda at, blob: [*first, *call_words(at + 4 * len(first), link(blob)[2])],
        clobbers=_volatile(abi) if clobbers is None else clobbers,
        calls=clobbers is None,
        counted=True,
        blob=lambda at: link(at)[:2],
        frame=frame,
        sees_registers=clobbers is not None,
        warnings=warnings,
        called=called,
        strays=strays,
        registers=registers,
    )


def _own_effects(text: Sequence[int], abi: ABI) -> tuple[int | None, bool]:
    """Return what compiled code changes, None where it may leave itself; and whether it uses the stack."""
    clobbers, touched, end = mask("lr"), 0, 4 * len(text)
    for index, word in enumerate(text):
        instruction = decode(word, 4 * index)
        inside = instruction.target is not None and instruction.target < end
        if instruction.kind in (Kind.INDIRECT, Kind.RFI, Kind.SYSCALL) or (
            instruction.kind in (Kind.CALL, Kind.JUMP, Kind.BRANCH) and not inside
        ):
            return None, True
        clobbers |= instruction.defs
        touched |= instruction.defs | instruction.uses
    return clobbers & (_volatile(abi) | mask("lr")), bool(touched & mask("r1"))


def count_payload() -> Payload:
    """Return a payload that does nothing but count its hits."""
    return Payload(emit=lambda _at, _blob: [], clobbers=0, calls=False, counted=True)


def asm_payload(
    assemble: Callable[[int], list[int]],
    origin: int,
    abi: ABI,
    *,
    counted: bool = False,
    stack: int = LEAST_STACK,
    model: str = "",
) -> Payload:
    """Return a payload of user-written instructions; ``assemble(at)`` gives their words.

    ``stack`` is the size of a kernel stack, bytes. Raises `BadPatch` when it does not run to its end, leaves
    r1 changed or is too long, `Refused` when it takes too much stack or uses vector registers.
    """
    words = assemble(origin)
    if not words:
        raise BadPatch("the payload has no instruction")
    if len(words) > _MOST_WORDS:
        raise BadPatch(f"the payload has {len(words):,} instructions; {_MOST_WORDS:,} are the most")
    code = [decode(word, origin + 4 * index, model) for index, word in enumerate(words)]
    clobbers, calls = 0, False
    for index, instruction in enumerate(code):
        _runs_to_its_end(instruction, index, origin, origin + 4 * len(words))
        calls |= instruction.kind is Kind.CALL
        clobbers |= instruction.defs if instruction.word != encode.nop() else 0
    check_depth(deepest(code, origin), stack, calls=calls, what="the payload")
    if calls:
        clobbers |= _volatile(abi) | mask("lr")
    clobbers &= GPRS | FPRS | CRS | mask("lr", "ctr", "fpscr", *_XER)
    return Payload(
        emit=lambda at, _blob: assemble(at),
        clobbers=clobbers & ~mask("r1"),
        calls=calls,
        counted=counted or calls,
        frame=calls,
        sees_registers=True,
        called=frozenset(i.target for i in code if i.kind is Kind.CALL and i.target is not None),
        strays=any(i.kind is Kind.CALL and i.target is None for i in code),
    )


def _runs_to_its_end(instruction: Instruction, index: int, start: int, end: int) -> None:
    """Raise `BadPatch` when an instruction of a payload, which stands in [start, end), may leave it."""
    where = f"payload instruction {index + 1} ({instruction.text})"
    for used, unit, bit, lost in (
        (instruction.vector, "AltiVec", "VEC", "vector registers"),
        (instruction.spe, "SPE", "SPE", "upper halves of the registers"),
    ):
        if used:
            told = f"kernel code runs with MSR[{bit}] off, and where it is on nobody keeps the {lost}"
            raise Refused("vector", f"{where} uses {unit}: {told}")
    if not instruction.known:
        raise BadPatch(
            f"{where}: not a known instruction; every word of an assembler payload is run, a C payload "
            "(--c) may have data"
        )
    if instruction.foreign:
        raise BadPatch(f"{where}: no instruction of this CPU")
    target, way = instruction.target, f"{where}: a payload must run to its end, it may not"
    early = "to end early, branch to a label behind its last instruction"
    if instruction.kind is Kind.INDIRECT:
        raise BadPatch(f"{way} jump away; call with bctrl, and {early}")
    if instruction.kind is Kind.RETURN:
        raise BadPatch(f"{way} return; {early}")
    if instruction.kind in (Kind.RFI, Kind.SYSCALL):
        raise BadPatch(f"{way} return or jump away")
    if instruction.kind in (Kind.JUMP, Kind.BRANCH) and (target is None or not start <= target <= end):
        raise BadPatch(f"{way} branch away; call with bl, and {early}")
