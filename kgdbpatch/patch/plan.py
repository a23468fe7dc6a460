"""Plan a patch: what to write where, of which exactly one word is the splice (paper 3.2.4, 3.3).

A body is: saves, payload, restores, the displaced instruction, the way back. It is entered by
the one word written over the site: a relative branch, an absolute one, or a branch to a
springboard. Pure: addresses and words in, a `Plan` out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from kgdbpatch.errors import BadPatch, Refused
from kgdbpatch.isa import encode
from kgdbpatch.isa.abi import ABI
from kgdbpatch.isa.decode import Instruction, Kind, decode
from kgdbpatch.isa.registers import CRS, FPRS, GPRS, mask, names
from kgdbpatch.patch.displace import Displaced, displace, free_gpr, jump

__all__ = ["Payload", "Place", "Plan", "Site", "asm_payload", "blob_payload", "call_payload", "plan"]

_COUNTER, _SCRATCH = 12, 11  # registers that count; a call may clobber both anyway
_XER = ("ca", "ov", "so")


@dataclass(frozen=True, slots=True)
class Site:
    """An instruction of the kernel and what is free before and after it."""

    instruction: Instruction
    free: frozenset[str]
    free_after: frozenset[str]
    abi: ABI
    leaf: bool  # the function may keep data in the red zone
    under: int | None = None  # the splice word of the patch that this one is put over

    @property
    def address(self) -> int:
        """The site's virtual address."""
        return self.instruction.address

    @property
    def word(self) -> int:
        """The word that stands at the site now."""
        return self.instruction.word if self.under is None else self.under


@dataclass(frozen=True, slots=True)
class Place:
    """Guest virtual addresses for a plan: body, springboard (None: none to be had), hit counter."""

    body: int
    springboard: int | None
    counter: int


@dataclass(frozen=True, slots=True)
class Payload:
    """What a user wants to run at a site.

    ``emit(at)`` returns the inline words for address ``at`` (always as many). ``blob(at)``
    returns code and data placed behind the body and the size of its constant part.
    ``clobbers`` is a register mask, ``calls`` tells that it calls something.
    """

    emit: Callable[[int, int], list[int]]  # (address of the words, address of the blob)
    clobbers: int
    calls: bool
    counted: bool
    blob: Callable[[int], tuple[bytes, int]] | None = None
    sees_registers: bool = False  # it may read any register: all are as at the site when it starts


@dataclass(frozen=True, slots=True)
class Plan:
    """All writes of one patch; addresses are guest virtual, code is big-endian."""

    site: int
    original: int
    splice: int
    body: int
    code: bytes
    constant_size: int  # leading bytes of ``code`` that never change
    body_words: int  # glue and inline payload, without a C blob
    saved: tuple[str, ...]
    springboard: int | None
    springboard_code: bytes
    guard: tuple[int, int]  # words of the body within which hits - exits counts threads
    counted: bool
    tail: int  # words of the body before the moved instruction
    onward: int  # words of the body before the jump to an older patch of the site, or 0

    @property
    def springboard_used(self) -> bool:
        """Whether the splice goes through the springboard."""
        return bool(self.springboard_code)


def _call(at: int, to: int) -> list[int]:
    if encode.branch_reaches(at, to):
        return [encode.bl(at, to)]
    if encode.absolute_reaches(to):
        return [encode.bla(to)]
    return [*encode.load_address(_COUNTER, to), encode.mtctr(_COUNTER), encode.bctrl()]


def call_payload(target: int, abi: ABI) -> Payload:
    """Return a payload that calls the kernel function at ``target``."""
    return Payload(
        emit=lambda at, _blob: _call(at, target),
        clobbers=abi.volatile & ~FPRS & ~mask("fpscr"),
        calls=True,
        counted=True,
    )


def blob_payload(link: Callable[[int], tuple[bytes, int, int]], abi: ABI) -> Payload:
    """Return a payload that calls into linked code; ``link(at)`` returns (bytes, constant size, entry)."""
    return Payload(
        emit=lambda at, blob: _call(at, link(blob)[2]),
        clobbers=abi.volatile & ~FPRS & ~mask("fpscr"),
        calls=True,
        counted=True,
        blob=lambda at: link(at)[:2],
    )


def asm_payload(
    assemble: Callable[[int], list[int]], origin: int, abi: ABI, *, counted: bool = False
) -> Payload:
    """Return a payload of user-written instructions; ``assemble(at)`` gives their words.

    Its clobbers are derived from its own decode. Raises `BadPatch` when it does not end at its
    end (returns, branches out) or leaves r1 changed.
    """
    words = assemble(origin)
    if not words and not counted:
        raise BadPatch("the payload has no instruction")
    clobbers, calls, stack = 0, False, 0
    for index, word in enumerate(words):
        instruction = decode(word, origin + 4 * index)
        where = f"payload instruction {index + 1} ({instruction.text})"
        if not instruction.known:
            raise BadPatch(f"{where}: not a known instruction")
        if instruction.kind in (Kind.RETURN, Kind.INDIRECT, Kind.RFI, Kind.SYSCALL):
            raise BadPatch(f"{where}: a payload must run to its end, it may not return or jump away")
        if instruction.kind is Kind.CALL:
            calls = True
        elif instruction.kind in (Kind.JUMP, Kind.BRANCH) and not (
            instruction.target is not None and origin <= instruction.target <= origin + 4 * len(words)
        ):
            raise BadPatch(f"{where}: a payload must run to its end, it may not branch away")
        clobbers |= instruction.defs
        if instruction.defs & mask("r1"):
            stack += _stack_change(instruction, where)
    if stack:
        raise BadPatch(f"the payload leaves r1 changed by {stack}")
    if calls:
        clobbers |= abi.volatile & ~FPRS & ~mask("fpscr") | mask("lr")
    clobbers &= GPRS | FPRS | CRS | mask("lr", "ctr", "fpscr", *_XER)
    return Payload(
        emit=lambda at, _blob: assemble(at),
        clobbers=clobbers & ~mask("r1"),
        calls=calls,
        counted=counted or calls,
        sees_registers=bool(words),
    )


def _stack_change(instruction: Instruction, where: str) -> int:
    word = instruction.word
    if word >> 16 & 31 == 1 and (instruction.mnemonic == "stwu" or word >> 16 == 0x3821):  # stwu / addi r1,r1
        return (word & 0xFFFF ^ 0x8000) - 0x8000
    raise BadPatch(f"{where}: r1 may only be moved by stwu and addi, and must end where it was")


@dataclass(slots=True)
class _Frame:
    """Saves and restores: which registers, in which slots of a stack frame of which size."""

    saved: tuple[str, ...] = ()
    size: int = 0
    scratch: int = 0
    slots: dict[str, int] = field(default_factory=dict)

    def _keep(self, what: str, move: int) -> list[int]:
        return [move, encode.stw(self.scratch, self.slots[what], 1)]

    def _reloaded(self) -> list[int]:
        name = f"r{self.scratch}"
        return [encode.lwz(self.scratch, self.slots[name], 1)] if name in self.saved else []

    def enter(self) -> list[int]:
        if not self.size:
            return []
        words = [encode.stwu(1, -self.size, 1)]
        words += [encode.stw(int(name[1:]), slot, 1) for name, slot in self.slots.items() if name[0] == "r"]
        moves = {"lr": encode.mflr, "cr": encode.mfcr, "ctr": encode.mfctr, "xer": encode.mfxer}
        special = [name for name in moves if name in self.slots]
        for name in special:
            words += self._keep(name, moves[name](self.scratch))
        if special:
            words += self._reloaded()  # the payload finds every register as it is at the site
        return words

    def leave(self) -> list[int]:
        if not self.size:
            return []
        fields = sum(0x80 >> int(name[2:]) for name in self.saved if name.startswith("cr"))
        words = []
        for name, restore in (
            ("xer", encode.mtxer),
            ("ctr", encode.mtctr),
            ("cr", lambda register: encode.mtcrf(fields, register)),
            ("lr", encode.mtlr),
        ):
            if name in self.slots:
                words += [encode.lwz(self.scratch, self.slots[name], 1), restore(self.scratch)]
        words += [encode.lwz(int(name[1:]), slot, 1) for name, slot in self.slots.items() if name[0] == "r"]
        return [*words, encode.addi(1, 1, self.size)]


def _frame(site: Site, clobbers: int, calls: bool) -> _Frame:
    saved = [name for name in names(clobbers) if name not in site.free]
    floating = [name for name in saved if name[0] == "f"]
    if floating:
        raise Refused(
            "floating point",
            f"the payload changes {', '.join(floating)}, live at 0x{site.address:08x}; "
            "kernel code runs with floating point off",
            site.address,
        )
    if not saved and not calls:
        return _Frame()
    slots: list[str] = [name for name in saved if name[0] == "r"]
    special: list[str] = [name for name in ("lr", "ctr") if name in saved]
    special += ["cr"] if any(name.startswith("cr") for name in saved) else []
    special += ["xer"] if any(name in _XER for name in saved) else []
    scratch = free_gpr(site.free) if special else None
    if scratch is None:
        scratch = 0
        if special and "r0" not in saved:
            slots.insert(0, "r0")
            saved.insert(0, "r0")
    offsets = {name: site.abi.linkage + 4 * number for number, name in enumerate(slots + special)}
    below = site.abi.red_zone if site.leaf else 0
    size = -(-(site.abi.linkage + 4 * len(offsets) + below) // 16) * 16
    return _Frame(tuple(saved), size, scratch, offsets)


def _count(counter: int) -> list[int]:
    """Return words that add one, exactly, to the word at ``counter``."""
    return [
        *encode.load_address(_COUNTER, counter),
        encode.lwarx(_SCRATCH, 0, _COUNTER),
        encode.addi(_SCRATCH, _SCRATCH, 1),
        encode.stwcx(_SCRATCH, 0, _COUNTER),
        encode.bc(4, 2, 12, 0),  # bne- to the lwarx
    ]


_STWCX = 4  # its index in _count


def _uncount(frame: _Frame) -> list[int]:
    """Return words that undo what `_count` did to live registers."""
    words = []
    if "cr" in frame.slots:
        words += [encode.lwz(_COUNTER, frame.slots["cr"], 1), encode.mtcrf(0x80, _COUNTER)]
    for register in (_COUNTER, _SCRATCH):
        if f"r{register}" in frame.slots:
            words.append(encode.lwz(register, frame.slots[f"r{register}"], 1))
    return words


def _bytes(words: list[int]) -> bytes:
    return b"".join(word.to_bytes(4, "big") for word in words)


def plan(site: Site, payload: Payload, place: Place) -> Plan:
    """Plan ``payload`` at ``site`` with the body at ``place``.

    Raises `Refused` where no registers are free for what is needed, or the instruction at the
    site cannot be moved.
    """
    clobbers = payload.clobbers
    if payload.counted:
        clobbers |= mask(f"r{_COUNTER}", f"r{_SCRATCH}", "cr0")
    frame = _frame(site, clobbers, payload.calls)

    def build(blob: int) -> tuple[list[int], tuple[int, int], int]:
        words = frame.enter()
        guard = (0, 0)
        if payload.counted:
            words += _count(place.counter)
            if payload.sees_registers:
                words += _uncount(frame)
        start = len(words)
        words += payload.emit(place.body + 4 * len(words), blob)
        if payload.calls:
            guard = (start, len(words) + _STWCX + 1)
            words += _count(place.counter + 4)
        words += frame.leave()
        tail = len(words)
        return words + _tail(site, place.body + 4 * tail), guard, tail

    words, *_ = build(place.body)  # sizes do not depend on where the blob is: it is near
    blob_at = place.body + -(-4 * len(words) // 16) * 16
    words, guard, tail = build(blob_at)
    code = _bytes(words)
    constant = len(code)
    if payload.blob is not None:
        blob, blob_constant = payload.blob(blob_at)
        code = code.ljust(blob_at - place.body, b"\0")
        constant = len(code) + blob_constant
        code += blob
    splice, springboard, springboard_code = _entrance(site, place)
    return Plan(
        site=site.address,
        original=site.word,
        splice=splice,
        body=place.body,
        code=code,
        constant_size=constant,
        body_words=len(words),
        saved=frame.saved,
        springboard=springboard,
        springboard_code=springboard_code,
        guard=guard,
        counted=payload.counted,
        tail=tail,
        onward=tail if site.under is not None else 0,
    )


def _tail(site: Site, at: int) -> list[int]:
    """Return what follows the payload: the moved instruction and the way back, or an older patch."""
    if site.under is not None:
        older = encode.branch_target(site.address, site.under)
        assert older is not None
        words = jump(at, older, frozenset())
        if words is None:
            raise Refused(
                "reach", f"the older patch of 0x{site.address:08x} is out of reach of a new one", site.address
            )
        return words
    free = site.free if site.instruction.kind is Kind.CALL else site.free_after
    moved = displace(site.instruction, at, free)
    words = list(moved.words)
    if moved.falls_through:
        words += _way_back(site, at + 4 * len(words), moved)
    return words


def _way_back(site: Site, at: int, moved: Displaced) -> list[int]:
    words = jump(at, site.address + 4, site.free_after)
    if words is None:
        raise Refused(
            "reach",
            f"no way back to 0x{site.address + 4:08x}: out of branch reach and no registers are free there",
            site.address,
        )
    return words


def _entrance(site: Site, place: Place) -> tuple[int, int | None, bytes]:
    """Return the splice word, and the springboard's address and code when one is needed."""
    direct = jump(site.address, place.body, frozenset())
    if direct is not None:
        return direct[0], None, b""
    if place.springboard is None:
        raise Refused(
            "springboard", f"no springboard is left within reach of 0x{site.address:08x}", site.address
        )
    to_springboard = jump(site.address, place.springboard, frozenset())
    if to_springboard is None:
        raise Refused(
            "reach", f"the springboards are out of branch reach of 0x{site.address:08x}", site.address
        )
    words = jump(place.springboard, place.body, site.free)
    if words is None:
        raise Refused(
            "registers",
            f"a springboard needs a free general-purpose register and LR or CTR; at 0x{site.address:08x} "
            f"only {', '.join(sorted(site.free)) or 'nothing'} is free",
            site.address,
        )
    return to_springboard[0], place.springboard, _bytes(words)
