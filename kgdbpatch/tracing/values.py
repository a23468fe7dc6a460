"""Write the C of expressions of a trace program."""

from __future__ import annotations

from kgdbpatch.errors import Misuse
from kgdbpatch.tracing.names import Scope, Word
from kgdbpatch.tracing.parse import wrong
from kgdbpatch.tracing.plan import AGGREGATES, WORDS_OF, Argument, Gathered, MapPlan
from kgdbpatch.tracing.stacks import MOST, frames_of
from kgdbpatch.tracing.syntax import (
    Binary,
    Call,
    Cast,
    Choice,
    Expression,
    Index,
    Local,
    Map,
    MemberOf,
    Name,
    Number,
    SizeOf,
    Spec,
    Text,
    Unary,
)
from kgdbpatch.types.model import Base, Enum, Pointer, stripped

__all__ = ["ValueWriter", "stored"]

_WIDE_CASTS = ("u64", "s64", "uint64_t", "int64_t")


class ValueWriter:
    """Writes the C of the expressions at one spec, and notes what maps and variables they have."""

    def __init__(self, scope: Scope, gathered: Gathered, spec: Spec, cpus: int) -> None:
        self._scope, self._gathered, self._spec, self._cpus = scope, gathered, spec, cpus
        self.locals: dict[str, str] = {}
        self.locked = False  # a map that all CPUs share is used

    def index(self, plan: MapPlan) -> int:
        """Return the number of a map."""
        return [*self._gathered.maps].index(plan.name)

    def argument(self, one: Expression, letter: str | None) -> tuple[Argument, str]:
        """Return what an argument of an event is, and its C; ``letter`` is that of its conversion."""
        value = self._whole(one)
        type_ = self._scope.type_of(one)
        bare = None if type_ is None else stripped(type_)
        if letter == "s" and value.kind in ("word", "wide"):
            return Argument("text"), value.c
        if letter is not None and letter not in "sp" and value.kind in ("name", "text"):
            raise self.wrong(one, f"%{letter} wants a number, not a string")
        if letter not in (None, "s") and frames_of(value.kind):
            raise self.wrong(one, f"%{letter} wants a number: a stack goes with %s")
        if letter is None and isinstance(bare, Pointer):
            return Argument("address"), value.c
        signed = bare.encoding == "signed" if isinstance(bare, Base) else None
        return Argument(value.kind, signed), value.c

    def map(self, one: Map, kind: str, call: Call | None = None) -> tuple[MapPlan, list[str]]:
        """Return a map's plan, and the C that fills ``kgt_key``."""
        values = [self._key(key) for key in one.keys]
        plan = self._gathered.map(one, kind, tuple(value.kind for value in values), call)
        lines, at = [], 0
        for value in values:
            lines.append(stored(f"&kgt_key[{at}]", value.kind, value.c))
            at += WORDS_OF[value.kind]
        return plan, lines

    def _key(self, one: Expression) -> Word:
        value = self._whole(one)
        type_ = self._scope.type_of(one)
        if value.kind == "word" and type_ is not None and isinstance(stripped(type_), Pointer):
            return Word(value.c, "address")
        return value

    def value(self, one: Expression) -> Word:
        """Return the C of an expression, of any but a stack; raise `Misuse` with its place."""
        found = self._whole(one)
        if frames_of(found.kind):
            raise self.wrong(one, "a stack can be printed and be a key, nothing else")
        return found

    def _whole(self, one: Expression) -> Word:
        if isinstance(one, Number):
            wide = one.value > 0xFFFF_FFFF
            return Word(
                f"{one.value}{'ll' if wide else 'u' if one.value > 0x7FFF_FFFF else ''}",
                "wide" if wide else "word",
            )
        if isinstance(one, Text):
            return Word(_quoted(one.value), "text")
        if isinstance(one, Name):
            return self._scope.name(one)
        if isinstance(one, Local):
            return Word(self.local(one.name), "wide")
        if isinstance(one, Map):
            return self._read(one)
        if isinstance(one, Call):
            return self._called(one)
        if isinstance(one, Choice):
            parts = [self.value(part) for part in (one.condition, one.then, one.other)]
            return Word(f"({parts[0].c} ? {parts[1].c} : {parts[2].c})", _widest(*parts[1:]))
        if isinstance(one, Binary):
            left, right = self.number(one.left), self.number(one.right)
            logical = one.operator in ("&&", "||", "==", "!=", "<", ">", "<=", ">=")
            return Word(f"({left.c} {one.operator} {right.c})", "word" if logical else _widest(left, right))
        return self._operand(one)

    def _operand(self, one: Expression) -> Word:
        if isinstance(one, Unary):
            inner = self.value(one.operand)
            if one.operator == "*":
                return self._sized(one, f"(*kgt_at({inner.c}))")
            if one.operator == "&":
                return Word(f"(&{inner.c})", "address")
            return Word(f"({one.operator}{inner.c})", "word" if one.operator == "!" else _widest(inner))
        if isinstance(one, SizeOf):
            return Word(f"sizeof({one.type})", "word")
        if isinstance(one, Cast):
            self._scope.type_of(one)
            inner = self.value(one.operand)
            wide = one.type in _WIDE_CASTS or "long long" in one.type
            return Word(f"(({one.type})({inner.c}))", "wide" if wide else "word")
        if isinstance(one, Index):
            owner, number = self.value(one.owner), self.number(one.number)
            return self._sized(one, f"(*kgt_at(({owner.c}) + ({number.c})))")
        assert isinstance(one, MemberOf)
        owner = self.value(one.owner)
        self._scope.type_of(one.owner)
        if owner.kind in ("text", "name"):
            raise wrong(self._gathered.text, one.at, f"a string has no member '{one.name}'")
        if one.operator == "->":
            return self._sized(one, f"kgt_at({owner.c})->{one.name}")
        return self._sized(one, f"{owner.c}.{one.name}")

    def _sized(self, one: Expression, c: str) -> Word:
        type_ = self._scope.type_of(one)
        bare = None if type_ is None else stripped(type_)
        wide = isinstance(bare, (Base, Enum)) and bare.bytes == 8
        return Word(c, "wide" if wide else "word")

    def number(self, one: Expression) -> Word:
        """Return the C of an expression that is no string."""
        value = self.value(one)
        if value.kind in ("text", "name"):
            raise self.wrong(one, "strings can be printed and be keys; nothing is computed of them")
        return value

    def _called(self, one: Call) -> Word:
        if one.name in ("str", "ksym", "sym"):
            if len(one.arguments) != 1:
                raise wrong(self._gathered.text, one.at, f"{one.name} wants one value: {one.name}(pointer)")
            inner = self.value(one.arguments[0])
            return Word(inner.c, "text" if one.name == "str" else "address")
        if one.name == "stack":
            return self._stack(one)
        if one.name in AGGREGATES:
            raise wrong(self._gathered.text, one.at, f"{one.name}() is not a value: @name = {one.name}(…)")
        raise wrong(self._gathered.text, one.at, f"'{one.name}' is no function: str(pointer), ksym(address)")

    def _stack(self, one: Call) -> Word:
        number = one.arguments[0] if len(one.arguments) == 1 else None
        if not isinstance(number, Number) or not 1 <= number.value <= MOST:
            raise wrong(self._gathered.text, one.at, f"so it is written: stack, or stack(N), N up to {MOST}")
        return self._scope.stack(number.value)

    def _read(self, one: Map) -> Word:
        known = self._gathered.maps.get(one.name)
        plan, keys = self.map(one, known.kind if known else "value")
        if plan.kind not in ("value", "count"):
            raise wrong(
                self._gathered.text, one.at, f"{one.name} is {plan.kind}: that is read when it is printed"
            )
        self.locked |= plan.shared and self._cpus > 1
        index = self.index(plan)
        field = "value" if plan.kind == "value" else "n"
        key = f"kgt_word kgt_key[{plan.key_words}]; {' '.join(keys)} " if plan.keys else ""
        found = (
            f"struct kgt_entry_{index} *kgt_entry = kgt_find_{index}({'kgt_key' if plan.keys else '0'}, 0);"
        )
        return Word(f"({{ {key}{found} kgt_entry ? (long long)kgt_entry->{field} : 0ll; }})", "wide")

    def local(self, name: str) -> str:
        """Return the C variable of a ``$name``."""
        return self.locals.setdefault(name, f"kgt_l_{name[1:]}")

    def wrong(self, one: Expression, what: str) -> Misuse:
        """Return the error that says what is wrong with an expression."""
        at = getattr(one, "at", None)
        if at is None and isinstance(one, (Unary, Cast)):
            at = getattr(one.operand, "at", None)
        return wrong(self._gathered.text, self._spec.at if at is None else at, what)


def _widest(*words: Word) -> str:
    return "wide" if any(word.kind == "wide" for word in words) else "word"


def stored(at: str, kind: str, value: str) -> str:
    """Return the C that stores a value in the words at ``at``."""
    if kind == "text" and value.startswith('"'):
        words = WORDS_OF[kind]
        union = f"union {{ char text[{4 * words}]; kgt_word words[{words}]; }}"
        said = f"static const {union} kgt_said = {{ {value} }};"
        copied = f"({at})[kgt_at_word] = kgt_said.words[kgt_at_word];"
        loop = f"for (int kgt_at_word = 0; kgt_at_word < {words}; kgt_at_word++)"
        return f"{{ {said} {loop} {copied} }}"
    if kind == "name":
        return f"kgt_name({at}, (const char *)(kgt_word)({value}));"
    if kind == "text":
        return f"kgt_text({at}, (const char *)(kgt_word)({value}), {WORDS_OF[kind]});"
    if frames_of(kind):
        return f"KGT_STACK({at}, {frames_of(kind)});"
    if kind == "wide":
        halves = f"({at})[0] = kgt_wide >> 32; ({at})[1] = kgt_wide;"
        return f"{{ long long kgt_wide = (long long)({value}); {halves} }}"
    return f"*({at}) = (kgt_word)({value});"


def _quoted(text: str) -> str:
    data = text.encode()[: 4 * WORDS_OF["text"] - 1]
    letters = (f"\\{one:03o}" if chr(one) in '"\\?' or not 32 <= one < 127 else chr(one) for one in data)
    return f'"{"".join(letters)}"'
