"""What names in a trace program stand for: parameters, types of members, the words of the language."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from kgdbpatch.errors import KgdbPatchError, UnknownSymbol
from kgdbpatch.image.near import close_names
from kgdbpatch.tracing.parse import wrong
from kgdbpatch.tracing.stacks import USUAL, StackFacts
from kgdbpatch.tracing.syntax import Cast, Choice, Expression, Index, MemberOf, Name, Spec, Unary
from kgdbpatch.types import KernelTypes
from kgdbpatch.types.declare import declarator
from kgdbpatch.types.model import Array, Base, Enum, Function, Pointer, Record, Type, stripped

__all__ = ["WORDS", "Facts", "Scope", "Word"]

_REGISTERS = 8  # r3 to r10 hold arguments


class Word(NamedTuple):
    """A value: its C text, what it is (a key of `plan.WORDS_OF`), the kernel's names that it takes."""

    c: str
    kind: str
    externs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """What a trace has to know of the guest.

    Memory of the kernel's may be read from ``low`` up to ``high``. ``nanoseconds`` is what a tick of the
    timebase takes, times 2**20; 0 where that is not known. ``current`` are the words that
    tell of the running thread; ``wide_aligned``: 64 bits are in a pair that begins with an odd register.
    """

    cpus: int
    low: int
    high: int
    nanoseconds: int
    current: Mapping[str, Word]
    wide_aligned: bool
    stack: StackFacts
    known: Callable[[str], bool] = field(repr=False)  # whether the kernel has a symbol of that name


WORDS = ("nsecs", "cpu", "caller", "func", "site", "retval", "comm", "pid", "tid", "curtask", "stack")
_ARGUMENTS = tuple(f"arg{number}" for number in range(_REGISTERS))


class Scope:
    """The names at one spec, whose only function has a prototype or not."""

    def __init__(
        self,
        text: str,
        spec: Spec,
        facts: Facts,
        types: KernelTypes | None,
        function: str | None,
        *,
        entered: bool,
        only: int | None,
    ) -> None:
        self.text, self.spec, self.facts, self.types = text, spec, facts, types
        self.prototype = _prototype(types, function)
        self.entered, self.only = entered, only  # each site is a function's entry; the only site
        self.registers = False  # all registers are to be shown
        self.linked = False  # LR is to be shown
        self.sited = False  # the site's address is to be shown
        self.stacked = False  # the stack is walked
        self.highest = -1  # of the registers of arguments that are named
        self.used: dict[str, str] = {}  # parameters: name, C declaration with its value
        self.externs: set[str] = set()
        self.mentioned: set[str] = set()  # structures whose members are named
        self._places = self._placed()

    # ---- parameters --------------------------------------------------------------------------

    def _placed(self) -> dict[str, tuple[Type | None, int, bool]]:
        """Return (type, number of the register, of two registers) of the parameters by name."""
        given, found, at = self.spec.parameters, dict[str, tuple[Type | None, int, bool]](), 0
        known = () if self.prototype is None else self.prototype.parameters
        for number in range(max(len(known), len(given))):
            type_ = known[number].type if number < len(known) else None
            bare = None if type_ is None else stripped(type_)
            wide = isinstance(bare, Base) and bare.bytes == 8
            if isinstance(bare, Record) or (isinstance(bare, Base) and bare.encoding in ("float", "complex")):
                break  # where those are passed, and what follows, is not told here
            if wide and self.facts.wide_aligned:
                at += at % 2
            if at + wide >= _REGISTERS:
                break
            own = known[number].name if number < len(known) else None
            if own:
                found[own] = (type_, at, wide)
            if number < len(given):
                found[given[number]] = (type_, at, wide)
            at += 1 + wide
        return found

    def _parameter(self, name: str) -> str:
        type_, at, wide = self._places[name]
        self.highest = max(self.highest, at + wide)
        value = f"KGT_ARG({at})"
        if wide:
            value = f"((unsigned long long)KGT_ARG({at}) << 32 | KGT_ARG({at + 1}))"
        local = f"kgt_v_{name}"
        if type_ is None:
            self.used[local] = f"unsigned long {local} = {value};"
        else:
            self.mention(type_)
            self.used[local] = f"{declarator(type_, local)} = (__typeof__({local}))({value});"
        return local

    # ---- names ---------------------------------------------------------------------------------

    def name(self, one: Name) -> Word:
        """Return what a name stands for; raise `Misuse` for what nothing is called."""
        name = one.name
        if name in self.spec.parameters:
            if name not in self._places:
                raise wrong(self.text, one.at, f"{name} is not passed in a register: it cannot be had")
            return self._of_type(name)
        if name in _ARGUMENTS:
            self.highest = max(self.highest, int(name[3:]))
            return Word(f"KGT_ARG({name[3:]})", "word")
        if name in WORDS:
            return self._word(one)
        if name in self._places:
            return self._of_type(name)
        if self.facts.known(name):
            self.externs.add(name)
            return Word(f"(*(volatile unsigned long *){name})", "word")
        near = close_names(name, [*self._places, *WORDS, *_ARGUMENTS])
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        if not near and self.prototype is None:
            hint = "; parameters can be named: FUNCTION(first, second), or are arg0 to arg7"
        raise wrong(self.text, one.at, f"nothing is called '{name}' here{hint}")

    def _of_type(self, name: str) -> Word:
        return Word(self._parameter(name), "wide" if self._places[name][2] else "word")

    def _word(self, one: Name) -> Word:
        name = one.name
        if name == "nsecs":
            if not self.facts.nanoseconds:
                raise wrong(
                    self.text, one.at, "how fast this machine's timebase goes is not known: no nsecs here"
                )
            return Word("kgt_nsecs()", "wide")
        if name == "cpu":
            return Word("kgp_cpu()", "word")
        if name == "retval":
            if not self.spec.returns:
                raise wrong(self.text, one.at, "retval is what a function returns: FUNCTION:return has it")
            return self._returned()
        if name == "stack":
            return self.stack(USUAL)
        if name in ("caller", "func", "site"):
            if name == "caller" and self.entered and not self.spec.returns:
                self.linked = True
            elif self.only is not None and name != "caller":
                return Word(f"0x{self.only:08x}ul", "function" if name == "func" else "address")
            elif name == "caller" and not self.spec.returns:
                self.registers = True
            elif not self.spec.returns:
                self.sited = True
            return Word(f"KGT_{name.upper()}", "function" if name == "func" else "address")
        if name in self.facts.current:
            word = self.facts.current[name]
            self._mention_text(word.c)
            self.externs |= {*word.externs}
            return word
        raise wrong(self.text, one.at, f"'{name}' is not known of this kernel")

    def stack(self, frames: int) -> Word:
        """Return the innermost frames of the stack."""
        self.stacked = True
        if self.entered and not self.spec.returns:
            self.linked = True
            self.sited |= self.only is None
        elif not self.spec.returns:
            self.registers = True
        return Word("", f"stack{frames}")

    @property
    def form(self) -> str:
        """How the payload is called: with all registers, at exits, or with the registers of arguments.

        Of the latter the last ones are LR's and the site's address's, where these are wanted.
        """
        if self.spec.returns:
            return "exit"
        taken = _REGISTERS - 2 if self.sited else _REGISTERS - self.linked
        return "registers" if self.registers or self.highest >= taken else "plain"

    def _returned(self) -> Word:
        if self.prototype is None:
            return Word("(long)kgt_exit->result", "word")
        type_ = self.prototype.returns
        bare = stripped(type_)
        if isinstance(bare, Base) and bare.bytes == 8:
            self.mention(type_)
            both = "((unsigned long long)kgt_exit->result << 32 | kgt_exit->result_low)"
            return Word(f"(({declarator(type_, '')}){both})", "wide")
        if isinstance(bare, (Base, Enum, Pointer)):
            self.mention(type_)
            return Word(f"(({declarator(type_, '')})kgt_exit->result)", "word")
        return Word("(long)kgt_exit->result", "word")

    # ---- types -----------------------------------------------------------------------------------

    def mention(self, type_: Type) -> None:
        """Have the types that a declaration names, and what it points to, defined."""
        bare = stripped(type_)
        while isinstance(bare, (Pointer, Array)):
            bare = stripped(bare.target)
        if isinstance(bare, Record) and bare.tag is not None and bare.complete:
            self.mentioned.add(f"{bare.kind} {bare.tag}")

    def _mention_text(self, c: str) -> None:
        words = c.replace("(", " ").replace(")", " ").replace("*", " ").split()
        for kind, tag in pairwise(words):
            if kind in ("struct", "union"):
                self.mentioned.add(f"{kind} {tag}")

    def type_of(self, one: Expression) -> Type | None:
        """Return the kernel's type of an expression, None where it is not known; mention it."""
        found = self._type_of(one)
        if found is not None:
            self.mention(found)
        return found

    def _type_of(self, one: Expression) -> Type | None:
        if isinstance(one, Name):
            if one.name == "retval" and self.prototype is not None and self.spec.returns:
                return self.prototype.returns
            return self._places[one.name][0] if one.name in self._places else None
        if isinstance(one, MemberOf):
            return self._member(one)
        if isinstance(one, Choice):
            return self.type_of(one.then)
        if isinstance(one, Cast):
            return self._cast(one.type)
        if isinstance(one, (Index, Unary)):
            inner = self.type_of(one.owner if isinstance(one, Index) else one.operand)
            bare = None if inner is None else stripped(inner)
            if isinstance(one, Unary) and one.operator == "&" and inner is not None:
                kept = inner
                return Pointer(lambda: kept)
            if isinstance(one, Index) or one.operator == "*":
                return bare.target if isinstance(bare, (Pointer, Array)) else None
        return None

    def _cast(self, text: str) -> Type | None:
        stars, plain = text.count("*"), " ".join(text.replace("*", " ").replace("const ", "").split())
        if self.types is None:
            return None
        try:
            found = self.types.find(plain)
        except KgdbPatchError:
            return None
        for _ in range(stars):
            found = Pointer((lambda inner: lambda: inner)(found))
        self.mention(found)
        return found

    def _member(self, one: MemberOf) -> Type | None:
        owner = self.type_of(one.owner)
        if owner is None:
            return None
        bare = stripped(owner)
        if isinstance(bare, (Pointer, Array)) != (one.operator == "->"):
            right = "->" if one.operator == "." else "."
            raise wrong(
                self.text, one.at, f"'{one.operator}{one.name}' is not for that: write '{right}{one.name}'"
            )
        if isinstance(bare, (Pointer, Array)):
            bare = stripped(bare.target)
        if not isinstance(bare, Record):
            raise wrong(self.text, one.at, f"what '{one.name}' is asked of is no structure")
        members = {member.name: member.type for member in bare.named() if member.name}
        if one.name not in members:
            near = close_names(one.name, members)
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            whole = f"{bare.kind} {bare.tag or '(unnamed)'}"
            raise wrong(self.text, one.at, f"{whole} has no member '{one.name}'{hint}")
        return members[one.name]


def _prototype(types: KernelTypes | None, function: str | None) -> Function | None:
    if types is None or function is None:
        return None
    try:
        return types.signature(function)
    except UnknownSymbol:
        return None
