"""Write the C payload of a probe of a trace program."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kgdbpatch.errors import Misuse
from kgdbpatch.tracing.map_text import cleared_text, update_text
from kgdbpatch.tracing.names import Facts, Scope, Word
from kgdbpatch.tracing.parse import wrong
from kgdbpatch.tracing.plan import AGGREGATES, WORDS_OF, Argument, Event, Gathered, MapPlan, conversions
from kgdbpatch.tracing.syntax import (
    Binary,
    Block,
    Call,
    Cast,
    Choice,
    Effect,
    Expression,
    If,
    Index,
    Local,
    Map,
    MemberOf,
    Name,
    Number,
    Probe,
    SizeOf,
    Spec,
    Statement,
    Step,
    Stop,
    Text,
    Unary,
)
from kgdbpatch.types import KernelTypes
from kgdbpatch.types.model import Base, Enum, Pointer, stripped

__all__ = ["Payload", "ProbeWriter"]

_UNSIGNED_CASTS = ("u64", "s64", "uint64_t", "int64_t")


class Payload(NamedTuple):
    """What is known of a probe's C before the whole program is: its body, and what that needs."""

    body: str
    form: str  # plain, registers, exit
    caller: str  # how it is known who called: exit, site (of a call), entry (all registers), link (LR)
    externs: tuple[str, ...]
    mentions: tuple[str, ...]
    typed: bool


class ProbeWriter:
    """Writes the body of one probe at one spec."""

    def __init__(
        self,
        probe: Probe,
        spec: Spec,
        gathered: Gathered,
        facts: Facts,
        types: KernelTypes | None,
        function: str | None,
        number: int,
        *,
        entered: bool,
        only: int | None,
    ) -> None:
        self._probe, self._gathered, self._facts = probe, gathered, facts
        self._scope = Scope(gathered.text, spec, facts, types, function, entered=entered, only=only)
        self._spec, self._typed, self._name = spec, types is not None, f"kgt_probe_{number}"
        self._locals: dict[str, str] = {}
        self._locked = False

    def write(self) -> Payload:
        """Return the C function; raise `Misuse` with the place of what is wrong."""
        condition = self._probe.condition
        tested = None if condition is None else self._value(condition).c
        lines = [*self._block(self._probe.block, "        ")]
        scope = self._scope
        shown = scope.registers or (scope.linked and scope.last)
        form = "exit" if self._spec.returns else "registers" if shown else "plain"
        at_call = self._spec.target.startswith("->")
        caller = "exit" if form == "exit" else "site" if at_call else "entry" if shown else "none"
        if scope.linked and caller == "none":
            caller = "link"
        parameter = {
            "exit": "struct kgp_exit *kgt_exit",
            "registers": "struct kgp_regs *kgt_regs",
            "plain": ", ".join(f"kgt_word kgt_a{number}" for number in range(8)),
        }[form]
        inner = [f"    {text}" for text in scope.used.values()]
        inner += [f"    long long {name} = 0;" for name in self._locals.values()]
        body = [
            f"void {self._name}({parameter})",
            "{",
            *(["    if (KGT_OVER)", "        return;"] if self._gathered.stops else []),
            *inner,
            *([f"    if (!({tested}))", "        return;"] if tested is not None else []),
            "    {",
            "        kgt_word kgt_msr = kgt_off(), kgt_cpu = kgp_cpu();",
            *(["        kgt_lock();"] if self._locked else []),
            "        (void)kgt_cpu;",
            *lines,
            *(["        kgt_unlock();"] if self._locked else []),
            "        kgt_on(kgt_msr);",
            "    }",
            "}",
        ]
        return Payload(
            "\n".join(body),
            form,
            caller,
            tuple(sorted(scope.externs)),
            tuple(sorted(scope.mentioned)),
            self._typed,
        )

    # ---- statements --------------------------------------------------------------------------

    def _block(self, block: Block, indent: str) -> Iterator[str]:
        for statement in block:
            for line in self._statement(statement):
                yield indent + line

    def _statement(self, one: Statement) -> Iterator[str]:
        if isinstance(one, If):
            yield f"if ({self._value(one.condition).c}) {{"
            yield from self._block(one.then, "    ")
            if one.other:
                yield "} else {"
                yield from self._block(one.other, "    ")
            yield "}"
        elif isinstance(one, Stop):
            yield from self._tell(Event("stop"), [])
            yield "KGT_OVER = 1;"
        elif isinstance(one, Effect):
            yield from self._effect(one.expression)
        elif isinstance(one, Step):
            yield from self._assign(one.target, one.operator[0] + "=", Number(1))
        else:
            yield from self._assign(one.target, one.operator, one.value)

    def _assign(self, target: Expression, operator: str, value: Expression) -> Iterator[str]:
        if isinstance(target, Local):
            name = self._local(target.name)
            yield f"{name} {operator} (long long)({self._value(value).c});"
            return
        if not isinstance(target, Map):
            raise self._wrong(target, "only maps (@name) and variables of an event ($name) can be written")
        if isinstance(value, Call) and value.name in AGGREGATES:
            if operator != "=":
                raise self._wrong(value, f"{value.name}() goes with =")
            yield from self._aggregate(target, value)
            return
        plan, keys = self._map(target, "value")
        self._locked |= self._facts.cpus > 1
        yield "{"
        yield f"    long long kgt_new = (long long)({self._value(value).c});"
        yield from self._found(plan, keys, [f"kgt_entry->value {operator} kgt_new;"])
        yield "}"

    def _aggregate(self, target: Map, value: Call) -> Iterator[str]:
        kind = value.name
        expected = {"count": 0, "lhist": 4}.get(kind, 1)
        if len(value.arguments) != expected:
            told = "lhist(value, least, most, step)" if kind == "lhist" else f"{kind}({'value' * expected})"
            raise wrong(self._gathered.text, value.at, f"so it is written: {told}")
        plan, keys = self._map(target, kind, value)
        given = self._value(value.arguments[0]).c if value.arguments else "0"
        yield "{"
        if value.arguments:
            yield f"    long long kgt_new = (long long)({given});"
        yield from self._found(plan, keys, [*update_text(plan)])
        yield "}"

    def _found(self, plan: MapPlan, keys: list[str], inner: list[str]) -> Iterator[str]:
        index = self._index(plan)
        if plan.keys:
            yield f"    kgt_word kgt_key[{plan.key_words}];"
            yield from (f"    {line}" for line in keys)
        key = "kgt_key" if plan.keys else "0"
        yield f"    struct kgt_entry_{index} *kgt_entry = kgt_find_{index}({key}, 1);"
        yield "    if (kgt_entry) {"
        yield from (f"        {line}" for line in inner)
        yield "    }"

    def _index(self, plan: MapPlan) -> int:
        return [*self._gathered.maps].index(plan.name)

    def _effect(self, one: Expression) -> Iterator[str]:
        if not isinstance(one, Call):
            raise self._wrong(one, "this does nothing: print(...), count(), @name = …")
        if one.name in AGGREGATES:
            yield from self._aggregate(Map("@", (), one.at), one)
        elif one.name == "printf":
            yield from self._printf(one)
        elif one.name == "print":
            yield from self._print(one)
        elif one.name == "delete":
            yield from self._delete(one)
        elif one.name in ("clear", "zero"):
            raise wrong(self._gathered.text, one.at, f"{one.name}() stands in every … {{ }}, not in a probe")
        else:
            raise wrong(
                self._gathered.text, one.at, f"'{one.name}' is no action: printf, print, count, hist, …"
            )

    def _printf(self, call: Call) -> Iterator[str]:
        text = self._gathered.text
        if not call.arguments or not isinstance(call.arguments[0], Text):
            raise wrong(text, call.at, 'printf wants a format first: printf("%d\\n", value)')
        form, *rest = call.arguments
        assert isinstance(form, Text)
        try:
            letters = conversions(form.value)
        except Misuse as error:
            raise wrong(text, form.at, str(error)) from None
        if len(letters) != len(rest):
            told = f"the format has {len(letters)} conversions, and {len(rest)} values are given"
            raise wrong(text, form.at, told)
        values = [self._argument(one, letter) for letter, one in zip(letters, rest, strict=True)]
        yield from self._tell(
            Event("printf", form.value, tuple(kind for kind, _ in values)), [c for _, c in values]
        )

    def _print(self, call: Call) -> Iterator[str]:
        if not call.arguments:
            raise wrong(self._gathered.text, call.at, "print what? print(value)")
        first = call.arguments[0]
        if isinstance(first, Map) and not first.keys and self._is_aggregate(first):
            yield from self._tell(Event("map", first.name), [])
            return
        values = [self._argument(one, None) for one in call.arguments]
        yield from self._tell(Event("print", "", tuple(kind for kind, _ in values)), [c for _, c in values])

    def _is_aggregate(self, one: Map) -> bool:
        known = self._gathered.maps.get(one.name)
        return known is None or known.kind != "value" or bool(known.keys)

    def _delete(self, call: Call) -> Iterator[str]:
        if len(call.arguments) != 1 or not isinstance(call.arguments[0], Map) or not call.arguments[0].keys:
            raise wrong(self._gathered.text, call.at, "delete wants an element of a map: delete(@start[tid])")
        target = call.arguments[0]
        known = self._gathered.maps.get(target.name)
        plan, keys = self._map(target, known.kind if known else "value")
        self._locked |= plan.shared and self._facts.cpus > 1
        index = self._index(plan)
        yield "{"
        yield f"    kgt_word kgt_key[{plan.key_words}];"
        yield from (f"    {line}" for line in keys)
        yield f"    struct kgt_entry_{index} *kgt_entry = kgt_find_{index}(kgt_key, 0);"
        yield "    if (kgt_entry) {"
        yield "        kgt_entry->used = 0;"
        yield from (f"        {line}" for line in cleared_text(plan))
        yield "    }"
        yield "}"

    def _tell(self, event: Event, values: list[str]) -> Iterator[str]:
        number = self._gathered.event(event)
        yield "{"
        yield "    struct kgt_ring *kgt_ring = &KGT_RING[kgt_cpu];"
        yield "    kgt_word kgt_head = kgt_ring->head;"
        yield "    struct kgt_slot *kgt_slot = &kgt_ring->slots[kgt_head & (KGT_SLOTS - 1)];"
        yield f"    kgt_slot->id = {number};"
        at = 0
        for argument, value in zip(event.arguments, values, strict=True):
            yield f"    {_stored(f'&kgt_slot->words[{at}]', argument.kind, value)}"
            at += WORDS_OF[argument.kind]
        yield '    __asm__ volatile("" : : : "memory");'
        yield "    kgt_ring->head = kgt_head + 1;"
        yield "}"

    # ---- values --------------------------------------------------------------------------------

    def _argument(self, one: Expression, letter: str | None) -> tuple[Argument, str]:
        """Return what an argument of an event is, and its C; ``letter`` is that of its conversion."""
        value = self._value(one)
        type_ = self._scope.type_of(one)
        bare = None if type_ is None else stripped(type_)
        if letter == "s" and value.kind in ("word", "wide"):
            return Argument("text"), value.c
        if letter is not None and letter not in "sp" and value.kind in ("name", "text"):
            raise self._wrong(one, f"%{letter} wants a number, not a string")
        if letter is None and isinstance(bare, Pointer):
            return Argument("address"), value.c
        signed = bare.encoding == "signed" if isinstance(bare, Base) else None
        return Argument(value.kind, signed), value.c

    def _map(self, one: Map, kind: str, call: Call | None = None) -> tuple[MapPlan, list[str]]:
        """Return a map's plan, and the C that fills ``kgt_key``."""
        values = [self._key(key) for key in one.keys]
        plan = self._gathered.map(one, kind, tuple(value.kind for value in values), call)
        lines, at = [], 0
        for value in values:
            lines.append(_stored(f"&kgt_key[{at}]", value.kind, value.c))
            at += WORDS_OF[value.kind]
        return plan, lines

    def _key(self, one: Expression) -> Word:
        value = self._value(one)
        type_ = self._scope.type_of(one)
        if value.kind == "word" and type_ is not None and isinstance(stripped(type_), Pointer):
            return Word(value.c, "address")
        return value

    def _value(self, one: Expression) -> Word:
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
            return Word(self._local(one.name), "wide")
        if isinstance(one, Map):
            return self._read(one)
        if isinstance(one, Call):
            return self._called(one)
        if isinstance(one, Choice):
            parts = [self._value(part) for part in (one.condition, one.then, one.other)]
            return Word(f"({parts[0].c} ? {parts[1].c} : {parts[2].c})", _widest(*parts[1:]))
        if isinstance(one, Binary):
            left, right = self._number(one.left), self._number(one.right)
            logical = one.operator in ("&&", "||", "==", "!=", "<", ">", "<=", ">=")
            return Word(f"({left.c} {one.operator} {right.c})", "word" if logical else _widest(left, right))
        return self._operand(one)

    def _operand(self, one: Expression) -> Word:
        if isinstance(one, Unary):
            inner = self._value(one.operand)
            if one.operator == "*":
                return self._sized(one, f"(*kgt_at({inner.c}))")
            if one.operator == "&":
                return Word(f"(&{inner.c})", "address")
            return Word(f"({one.operator}{inner.c})", "word" if one.operator == "!" else _widest(inner))
        if isinstance(one, SizeOf):
            return Word(f"sizeof({one.type})", "word")
        if isinstance(one, Cast):
            self._scope.type_of(one)
            inner = self._value(one.operand)
            wide = one.type in _UNSIGNED_CASTS or "long long" in one.type
            return Word(f"(({one.type})({inner.c}))", "wide" if wide else "word")
        if isinstance(one, Index):
            owner, number = self._value(one.owner), self._number(one.number)
            return self._sized(one, f"(*kgt_at(({owner.c}) + ({number.c})))")
        assert isinstance(one, MemberOf)
        owner = self._value(one.owner)
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

    def _number(self, one: Expression) -> Word:
        value = self._value(one)
        if value.kind in ("text", "name"):
            raise self._wrong(one, "strings can be printed and be keys; nothing is computed of them")
        return value

    def _called(self, one: Call) -> Word:
        if one.name in ("str", "ksym", "sym"):
            if len(one.arguments) != 1:
                raise wrong(self._gathered.text, one.at, f"{one.name} wants one value: {one.name}(pointer)")
            inner = self._value(one.arguments[0])
            return Word(inner.c, "text" if one.name == "str" else "address")
        if one.name in AGGREGATES:
            raise wrong(self._gathered.text, one.at, f"{one.name}() is not a value: @name = {one.name}(…)")
        raise wrong(self._gathered.text, one.at, f"'{one.name}' is no function: str(pointer), ksym(address)")

    def _read(self, one: Map) -> Word:
        known = self._gathered.maps.get(one.name)
        plan, keys = self._map(one, known.kind if known else "value")
        if plan.kind not in ("value", "count"):
            raise wrong(
                self._gathered.text, one.at, f"{one.name} is {plan.kind}: that is read when it is printed"
            )
        self._locked |= plan.shared and self._facts.cpus > 1
        index = self._index(plan)
        field = "value" if plan.kind == "value" else "n"
        key = f"kgt_word kgt_key[{plan.key_words}]; {' '.join(keys)} " if plan.keys else ""
        found = (
            f"struct kgt_entry_{index} *kgt_entry = kgt_find_{index}({'kgt_key' if plan.keys else '0'}, 0);"
        )
        return Word(f"({{ {key}{found} kgt_entry ? (long long)kgt_entry->{field} : 0ll; }})", "wide")

    def _local(self, name: str) -> str:
        return self._locals.setdefault(name, f"kgt_l_{name[1:]}")

    def _wrong(self, one: Expression, what: str) -> Misuse:
        at = getattr(one, "at", None)
        if at is None and isinstance(one, (Unary, Cast)):
            at = getattr(one.operand, "at", None)
        return wrong(self._gathered.text, self._spec.at if at is None else at, what)


def _widest(*words: Word) -> str:
    return "wide" if any(word.kind == "wide" for word in words) else "word"


def _stored(at: str, kind: str, value: str) -> str:
    if kind in ("name", "text"):
        return f"kgt_text({at}, (const char *)(kgt_word)({value}), {WORDS_OF[kind]});"
    if kind == "wide":
        halves = f"({at})[0] = kgt_wide >> 32; ({at})[1] = kgt_wide;"
        return f"{{ long long kgt_wide = (long long)({value}); {halves} }}"
    return f"*({at}) = (kgt_word)({value});"


def _quoted(text: str) -> str:
    letters = (f"\\{ord(one):03o}" if one in '"\\?' or not 32 <= ord(one) < 127 else one for one in text)
    return f'"{"".join(letters)}"'
