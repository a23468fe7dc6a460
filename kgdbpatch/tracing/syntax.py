"""What a trace program is made of; ``at`` is a place in its text, in characters."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "Assign",
    "Binary",
    "Block",
    "Call",
    "Cast",
    "Choice",
    "Effect",
    "Every",
    "Expression",
    "If",
    "Index",
    "Local",
    "Map",
    "MemberOf",
    "Name",
    "Number",
    "Probe",
    "Program",
    "SizeOf",
    "Spec",
    "Statement",
    "Step",
    "Stop",
    "Text",
    "Unary",
]


@dataclass(frozen=True)
class Number:
    """A number."""

    value: int


@dataclass(frozen=True)
class Text:
    """A string."""

    value: str
    at: int


@dataclass(frozen=True)
class Name:
    """A parameter, one of the words that the language knows, or a name of the kernel."""

    name: str
    at: int


@dataclass(frozen=True)
class Local:
    """A variable of one event, ``$name``."""

    name: str
    at: int


@dataclass(frozen=True)
class Map:
    """An element of a map, ``@name[keys]``."""

    name: str
    keys: tuple[Expression, ...]
    at: int


@dataclass(frozen=True)
class Call:
    """A function of the language."""

    name: str
    arguments: tuple[Expression, ...]
    at: int


@dataclass(frozen=True)
class Unary:
    """``- + ! ~ * &`` before an operand."""

    operator: str
    operand: Expression


@dataclass(frozen=True)
class Binary:
    """Two operands as in C."""

    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True)
class Choice:
    """``condition ? then : other``."""

    condition: Expression
    then: Expression
    other: Expression


@dataclass(frozen=True)
class MemberOf:
    """``owner->name`` or ``owner.name``."""

    owner: Expression
    operator: str
    name: str
    at: int


@dataclass(frozen=True)
class Index:
    """``owner[number]``."""

    owner: Expression
    number: Expression


@dataclass(frozen=True)
class Cast:
    """``(type) operand``."""

    type: str
    operand: Expression


@dataclass(frozen=True)
class SizeOf:
    """``sizeof(type)``."""

    type: str


Expression = (
    Number | Text | Name | Local | Map | Call | Unary | Binary | Choice | MemberOf | Index | Cast | SizeOf
)


@dataclass(frozen=True)
class Effect:
    """An expression for what it does."""

    expression: Expression


@dataclass(frozen=True)
class Assign:
    """``target = value``, ``+=`` and the like."""

    target: Expression
    operator: str
    value: Expression


@dataclass(frozen=True)
class Step:
    """``target++`` or ``target--``."""

    target: Expression
    operator: str


@dataclass(frozen=True)
class Stop:
    """The end of the trace."""


@dataclass(frozen=True)
class If:
    """``if (condition) { … } else { … }``."""

    condition: Expression
    then: Block
    other: Block


Statement = Effect | Assign | Step | Stop | If
Block = tuple[Statement, ...]


@dataclass(frozen=True)
class Spec:
    """Where a probe is: ``target`` as it was written, names for the function's parameters, at its returns."""

    target: str
    parameters: tuple[str, ...]
    returns: bool
    at: int


@dataclass(frozen=True)
class Probe:
    """What happens at the sites of its specs, if the condition holds."""

    specs: tuple[Spec, ...]
    condition: Expression | None
    block: Block


@dataclass(frozen=True)
class Every:
    """What is printed or cleared every so many seconds."""

    seconds: float
    block: Block


@dataclass(frozen=True)
class Program:
    """A whole program and its text."""

    text: str
    probes: tuple[Probe, ...]
    every: tuple[Every, ...]
