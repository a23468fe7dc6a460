"""Write the C payload of a probe of a trace program."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kgdbpatch.errors import Misuse
from kgdbpatch.tracing.map_text import cleared_text, update_text
from kgdbpatch.tracing.names import Facts, Scope
from kgdbpatch.tracing.parse import wrong
from kgdbpatch.tracing.plan import AGGREGATES, WORDS_OF, Event, Gathered, MapPlan, conversions
from kgdbpatch.tracing.syntax import (
    Block,
    Call,
    Effect,
    Expression,
    If,
    Local,
    Map,
    Number,
    Probe,
    Spec,
    Statement,
    Step,
    Stop,
    Text,
)
from kgdbpatch.tracing.values import ValueWriter, stored
from kgdbpatch.types import KernelTypes

__all__ = ["Payload", "ProbeWriter"]


class Payload(NamedTuple):
    """What is known of a probe's C before the whole program is: its body, and what that needs."""

    body: str
    form: str  # plain, registers, exit
    caller: str  # how it is known who called: exit, site (of a call), entry (all registers), link (LR)
    site: str  # how the site is known: exit, registers, given (in a register), none, or its address
    externs: tuple[str, ...]
    mentions: tuple[str, ...]
    typed: bool
    stacked: bool  # it walks the stack
    framed: bool = False  # at its sites the function has made its frame


class ProbeWriter(ValueWriter):
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
        scope = Scope(gathered.text, spec, facts, types, function, entered=entered, only=only)
        super().__init__(scope, gathered, spec, facts.cpus)
        self._probe, self._typed, self._name = probe, types is not None, f"kgt_probe_{number}"

    def write(self) -> Payload:
        """Return the C function; raise `Misuse` with the place of what is wrong."""
        condition = self._probe.condition
        tested = None if condition is None else self.value(condition).c
        lines = [*self._block(self._probe.block, "        ")]
        scope = self._scope
        form = scope.form
        at_call = self._spec.target.startswith("->")
        caller = {"exit": "exit", "registers": "site" if at_call else "entry"}.get(form, "none")
        if scope.linked and caller == "none":
            caller = "link"
        site = {"exit": "exit", "registers": "registers"}.get(form, "given" if scope.sited else "none")
        if form == "plain" and not scope.sited and scope.only is not None:
            site = f"0x{scope.only:08x}ul"
        parameter = {
            "exit": "struct kgp_exit *kgt_exit",
            "registers": "struct kgp_regs *kgt_regs",
            "plain": ", ".join(f"kgt_word kgt_a{number}" for number in range(8)),
        }[form]
        inner = [f"    {text}" for text in scope.used.values()]
        inner += [f"    long long {name} = 0;" for name in self.locals.values()]
        body = [
            f"void {self._name}({parameter})",
            "{",
            *(["    if (KGT_OVER)", "        return;"] if self._gathered.stops else []),
            *inner,
            *([f"    if (!({tested}))", "        return;"] if tested is not None else []),
            "    {",
            "        kgt_word kgt_msr = kgt_off(), kgt_cpu = kgp_cpu();",
            *(["        kgt_lock();"] if self.locked else []),
            "        (void)kgt_cpu;",
            *lines,
            *(["        kgt_unlock();"] if self.locked else []),
            "        kgt_on(kgt_msr);",
            "    }",
            "}",
        ]
        return Payload(
            "\n".join(body),
            form,
            caller,
            site,
            tuple(sorted(scope.externs)),
            tuple(sorted(scope.mentioned)),
            self._typed,
            scope.stacked,
        )

    # ---- statements --------------------------------------------------------------------------

    def _block(self, block: Block, indent: str) -> Iterator[str]:
        for statement in block:
            for line in self._statement(statement):
                yield indent + line

    def _statement(self, one: Statement) -> Iterator[str]:
        if isinstance(one, If):
            yield f"if ({self.value(one.condition).c}) {{"
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
            name = self.local(target.name)
            yield f"{name} {operator} (long long)({self.value(value).c});"
            return
        if not isinstance(target, Map):
            raise self.wrong(target, "only maps (@name) and variables of an event ($name) can be written")
        if isinstance(value, Call) and value.name in AGGREGATES:
            if operator != "=":
                raise self.wrong(value, f"{value.name}() goes with =")
            yield from self._aggregate(target, value)
            return
        plan, keys = self.map(target, "value")
        self.locked |= self._cpus > 1
        yield "{"
        yield f"    long long kgt_new = (long long)({self.value(value).c});"
        yield from self._found(plan, keys, [f"kgt_entry->value {operator} kgt_new;"])
        yield "}"

    def _aggregate(self, target: Map, value: Call) -> Iterator[str]:
        kind = value.name
        expected = {"count": 0, "lhist": 4}.get(kind, 1)
        if len(value.arguments) != expected:
            told = "lhist(value, least, most, step)" if kind == "lhist" else f"{kind}({'value' * expected})"
            raise wrong(self._gathered.text, value.at, f"so it is written: {told}")
        plan, keys = self.map(target, kind, value)
        given = self.value(value.arguments[0]).c if value.arguments else "0"
        yield "{"
        if value.arguments:
            yield f"    long long kgt_new = (long long)({given});"
        yield from self._found(plan, keys, [*update_text(plan)])
        yield "}"

    def _found(self, plan: MapPlan, keys: list[str], inner: list[str]) -> Iterator[str]:
        index = self.index(plan)
        if plan.keys:
            yield f"    kgt_word kgt_key[{plan.key_words}];"
            yield from (f"    {line}" for line in keys)
        key = "kgt_key" if plan.keys else "0"
        yield f"    struct kgt_entry_{index} *kgt_entry = kgt_find_{index}({key}, 1);"
        yield "    if (kgt_entry) {"
        yield from (f"        {line}" for line in inner)
        yield "    }"

    def _effect(self, one: Expression) -> Iterator[str]:
        if not isinstance(one, Call):
            raise self.wrong(one, "this does nothing: print(...), count(), @name = …")
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
        values = [self.argument(one, letter) for letter, one in zip(letters, rest, strict=True)]
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
        values = [self.argument(one, None) for one in call.arguments]
        yield from self._tell(Event("print", "", tuple(kind for kind, _ in values)), [c for _, c in values])

    def _is_aggregate(self, one: Map) -> bool:
        known = self._gathered.maps.get(one.name)
        return known is None or known.kind != "value" or bool(known.keys)

    def _delete(self, call: Call) -> Iterator[str]:
        if len(call.arguments) != 1 or not isinstance(call.arguments[0], Map) or not call.arguments[0].keys:
            raise wrong(self._gathered.text, call.at, "delete wants an element of a map: delete(@start[tid])")
        target = call.arguments[0]
        known = self._gathered.maps.get(target.name)
        plan, keys = self.map(target, known.kind if known else "value")
        self.locked |= plan.shared and self._cpus > 1
        index = self.index(plan)
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
            yield f"    {stored(f'&kgt_slot->words[{at}]', argument.kind, value)}"
            at += WORDS_OF[argument.kind]
        yield '    __asm__ volatile("" : : : "memory");'
        yield "    kgt_ring->head = kgt_head + 1;"
        yield "}"
