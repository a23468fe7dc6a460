"""Reckon how deep a payload makes the stack, and compare it with the stack that the kernel has.

r1 is followed through the machine code along all paths and calls of its own. A quarter of the stack is
allowed for kernel functions that it calls, and a quarter for what stands there at the site.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kgdbpatch.errors import Refused
from kgdbpatch.isa.decode import Instruction, Kind, decode
from kgdbpatch.isa.registers import mask

__all__ = ["LEAST_STACK", "Depth", "check_depth", "depth"]

LEAST_STACK = 8192  # bytes; no 32-bit PowerPC kernel has smaller ones

_R1 = mask("r1")
_MOST = 1 << 24  # bytes; a stack that grows so far grows for ever
_LOOK_BACK = 8  # instructions between the making of a frame's size and its use
_ADDI, _ADDIS, _ORI, _LWZ, _STWU, _X = 14, 15, 24, 32, 37, 31
_STWUX, _OR = 183, 444


class Depth(NamedTuple):
    """Bytes of stack that code takes by itself, and whether it calls what is not of it."""

    own: int
    calls: bool


def check_depth(own: int, stack: int, *, calls: bool, what: str) -> None:
    """Raise `Refused` (rule ``stack depth``) when a kernel stack of ``stack`` bytes is too small."""
    called = stack // 4 if calls else 0
    room = stack - stack // 4
    if own + called > room:
        more = f" and kernel functions that it calls are allowed {called:,}" if calls else ""
        raise Refused(
            "stack depth",
            f"{what} takes {own:,} bytes of stack{more}; this kernel's stacks have {stack:,} bytes, of which "
            f"a payload may take {room:,}",
        )


def depth(text: Sequence[int], address: int, functions: Mapping[str, int], what: str) -> Depth:
    """Return the depth of code linked for ``address``, of the deepest of ``functions`` (addresses by name).

    Raises `Refused` by the rules ``recursion`` and ``stack depth`` where there is no bound.
    """
    code = [decode(word, address + 4 * index) for index, word in enumerate(text)]
    names = {at: name for name, at in sorted(functions.items(), reverse=True)}
    walk = _Walk(code, address, names, what)
    return Depth(max((walk.function(at) for at in sorted(names)), default=0), walk.calls)


class _Walk:
    def __init__(self, code: list[Instruction], address: int, names: dict[int, str], what: str) -> None:
        self._code, self._address, self._names, self._what = code, address, names, what
        self._starts = sorted((at - address) // 4 for at in names)
        self._known: dict[int, int] = {}
        self._open: list[int] = []
        self.calls = False

    def function(self, at: int) -> int:
        """Return the depth of the function at an address, what it calls included."""
        if at in self._open:
            ring = [self._name(function) for function in (*self._open[self._open.index(at) :], at)]
            raise Refused(
                "recursion",
                f"{self._what}: {' ─► '.join(ring)}: recursion has no bound but the stack's; write a loop",
            )
        if at not in self._known:
            self._open.append(at)
            self._known[at] = self._flow((at - self._address) // 4)
            self._open.pop()
        return self._known[at]

    def _name(self, at: int) -> str:
        return self._names.get(at, f"0x{at:08x}")

    def _flow(self, start: int) -> int:
        """Return the depth of what is reached from an instruction, by a function's first one."""
        depths = {start: 0}
        most = self._spread(depths, [start])
        while True:
            # a switch: its cases are those words of the function that are not reached otherwise
            jumps = [at for at in depths if self._code[at].kind is Kind.INDIRECT]
            cases = [
                (depths[at], case) for at in jumps for case in self._function_words(at) if case not in depths
            ]
            if not cases:
                return most
            deep, case = max(cases, key=lambda found: (found[0], -found[1]))
            depths[case] = deep
            most = max(most, self._spread(depths, [case]))

    def _spread(self, depths: dict[int, int], pending: list[int]) -> int:
        most = 0
        while pending:
            index = pending.pop()
            here = self._code[index]
            after = depths[index] + self._change(index)
            if after > _MOST:
                where = f"{self._what}: {self._name_of(index)}"
                raise Refused("stack depth", f"{where}: the stack grows in a loop, without a bound")
            most = max(most, after)
            if here.kind is Kind.CALL:
                most = max(most, after + self._called(here))
            for other in self._successors(index):
                if depths.get(other, -1) < after:
                    depths[other] = after
                    pending.append(other)
        return most

    def _function_words(self, index: int) -> range:
        first = max((at for at in self._starts if at <= index), default=0)
        return range(first, min((at for at in self._starts if at > index), default=len(self._code)))

    def _name_of(self, index: int) -> str:
        return self._name(self._address + 4 * max((at for at in self._starts if at <= index), default=index))

    def _inside(self, target: int | None) -> int | None:
        """Return the index of an address that is the code's, or None."""
        index = -1 if target is None else (target - self._address) // 4
        return index if 0 <= index < len(self._code) else None

    def _called(self, call: Instruction) -> int:
        if self._inside(call.target) is None:
            self.calls = True
            return 0
        assert call.target is not None
        return 0 if call.target == call.address + 4 else self.function(call.target)

    def _successors(self, index: int) -> list[int]:
        here, found = self._code[index], list[int]()
        if here.kind is Kind.INDIRECT:  # a switch, or a call at the function's end
            self.calls = True
        target = self._inside(here.target) if here.kind in (Kind.JUMP, Kind.BRANCH) else None
        if target is not None:
            found.append(target)
        elif here.kind in (Kind.JUMP, Kind.BRANCH):
            self.calls = True
        if here.kind not in (Kind.JUMP, Kind.RFI) and (here.conditional or here.kind not in _ENDS):
            found += [index + 1] if index + 1 < len(self._code) else []
        return found

    def _change(self, index: int) -> int:
        """Return by how many bytes an instruction moves r1 down, 0 where it puts an older value back."""
        here = self._code[index]
        if not here.defs & _R1:
            return 0
        word, base = here.word, here.word >> 16 & 31
        opcode, extended = word >> 26, word >> 1 & 0x3FF
        if opcode in (_ADDI, _STWU) and base == 1:
            return 0x8000 - (word & 0xFFFF ^ 0x8000)
        size = None
        if opcode == _X and extended == _STWUX and base == 1:
            size = self._constant(word >> 11 & 31, index)
        elif opcode in (_LWZ, _ADDI) or (opcode == _X and extended == _OR):
            size = 0  # the old value, from the back chain or from another register
        if size is None:
            raise Refused(
                "stack depth",
                f"{self._what}: {self._name_of(index)}: '{here.text}' takes stack by an amount that is known "
                "only when it runs; give arrays a constant size",
            )
        return size

    def _constant(self, register: int, index: int) -> int | None:
        """Return by how much a register that holds a negative number makes the stack grow."""
        value, wanted = 0, mask(f"r{register}")
        for here in reversed(self._code[max(index - _LOOK_BACK, 0) : index]):
            if here.target is not None or here.kind is Kind.INDIRECT:
                return None
            if not here.defs & wanted:
                continue
            opcode, source, low = here.word >> 26, here.word >> 16 & 31, here.word & 0xFFFF
            if opcode == _ORI and here.word >> 21 & 31 == source == register:
                value |= low
                continue
            signed = (low ^ 0x8000) - 0x8000
            if opcode in (_ADDI, _ADDIS) and source in (0, register):
                value += signed << 16 if opcode == _ADDIS else signed
                if source:
                    continue
                return -value if value < 0 else None
            return None
        return None


_ENDS: frozenset[Kind] = frozenset({Kind.JUMP, Kind.RETURN, Kind.INDIRECT, Kind.RFI})
