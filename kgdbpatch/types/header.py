"""Write types as a C header that compiles by itself, and does not where a place or a size is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kgdbpatch.types.declare import declarator, prototype, spelling
from kgdbpatch.types.model import (
    Array,
    Enum,
    Function,
    Member,
    Pointer,
    Qualified,
    Record,
    Type,
    Typedef,
    stripped,
)
from kgdbpatch.types.shape import Placed, Shape, Shapes

__all__ = ["write_header"]

_BUILT_IN = {"__builtin_va_list"}
_MACROS = {"linux", "unix", "PPC", "powerpc"}  # GCC's own, which are names of members, too


def write_header(types: Iterable[Type], title: str) -> str:
    """Return a header that defines types, in an order that compiles, and what they need by value."""
    header = _Header()
    for type_ in types:
        if isinstance(type_, Function):
            header.mention(type_)
            header.parts.append(header.spelt_prototype(type_))
        elif isinstance(type_, Record) and not type_.complete:
            header.mention(type_)
        else:
            header.need(type_)
    undefined = [f"#undef {name}" for name in sorted(_MACROS & header.identifiers)]
    return "\n".join([f"/* {title} */", *undefined, *header.parts, ""])


class _Header:
    """What is written so far; ``need`` a type by value, ``mention`` it as what a pointer points to."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.identifiers: set[str] = set()
        self._shapes = Shapes()
        self._written: dict[tuple[str, str], list[tuple[object, str]]] = {}
        self._names: dict[int, tuple[Type, str]] = {}  # what is called otherwise than it was
        self._done: set[int] = set()
        self._begun: set[int] = set()
        self._mentioned: set[int] = set()
        self._kept: list[Type] = []  # so that no id comes twice

    def need(self, type_: Type) -> None:
        """Define what a value of a type takes."""
        if isinstance(type_, (Pointer, Function)):
            self.mention(type_)
        elif isinstance(type_, (Qualified, Array)):
            self.need(type_.target)
        elif isinstance(type_, Typedef):
            self.need(type_.target)
            self._typedef(type_)
        elif isinstance(type_, Enum):
            self._enum(type_)
        elif isinstance(type_, Record):
            self._record(type_)

    def mention(self, type_: Type) -> None:
        """Declare what a pointer to a type takes."""
        if id(type_) in self._mentioned:
            return
        self._mentioned.add(id(type_))
        self._kept.append(type_)
        if isinstance(type_, (Pointer, Qualified)):
            self.mention(type_.target)
        elif isinstance(type_, Array):
            self.need(type_.target)
        elif isinstance(type_, Function):
            for one in (type_.returns, *(parameter.type for parameter in type_.parameters)):
                self.mention(one)
        elif isinstance(type_, Typedef):
            self.mention(type_.target)
            self._typedef(type_)
        elif isinstance(type_, Enum):
            self._enum(type_)
        elif isinstance(type_, Record):
            if type_.tag is None:
                self._record(type_)
            elif ("tag", type_.tag) not in self._written:
                self._written["tag", type_.tag] = []
                self.parts.append(f"{type_.kind} {type_.tag};")

    def spelt_prototype(self, function: Function) -> str:
        """Return a function's declaration."""
        return prototype(function) if not self._names else f"{self._text(function, function.name or '')};"

    def _text(self, type_: Type, name: str) -> str:
        return declarator(type_, name, self._plain)

    def _plain(self, type_: Type) -> str | None:
        """Return how a type is called or written where it is used; None for as always."""
        if id(type_) in self._names:
            kind = "" if isinstance(type_, Typedef) else "enum " if isinstance(type_, Enum) else None
            kind = f"{type_.kind} " if kind is None and isinstance(type_, Record) else kind
            return f"{kind}{self._names[id(type_)][1]}"
        if isinstance(type_, Record) and type_.tag is None:
            return self._body(type_, self._shapes.of(type_))
        if isinstance(type_, Enum) and type_.tag is None:
            return self._enum_body(type_, "")
        return None

    def _called(self, space: str, type_: Type, name: str, content: object) -> str | None:
        """Return the name to define a type by; None where the same is defined already."""
        known = self._written.setdefault((space, name), [])
        for other, used in known:
            if other == content:
                if used != name:
                    self._names[id(type_)] = (type_, used)
                return None
        used = name if not known else f"{name}__{len(known) + 1}"
        if used != name:
            self._names[id(type_)] = (type_, used)
        known.append((content, used))
        return used

    def _typedef(self, type_: Typedef) -> None:
        if type_.name in _BUILT_IN or id(type_) in self._done:
            return
        self._done.add(id(type_))
        self._kept.append(type_)
        target = type_.target
        inner = stripped(target, typedefs=False)
        content = (_content(inner) if isinstance(inner, (Record, Enum)) else None, spelling(target))
        name = self._called("ordinary", type_, type_.name, content)
        if name is None:
            return
        attribute = f" __attribute__((aligned({type_.alignment})))" if type_.alignment else ""
        text = f"typedef {self._text(target, name)}{attribute};"
        self.parts.append(f"#ifndef bool\n{text}\n#endif" if name == "bool" else text)
        if isinstance(inner, Record) and inner.tag is None:
            self.parts.extend(self._asserts(name, inner))

    def _enum(self, type_: Enum) -> None:
        if type_.tag is None or id(type_) in self._done:
            return
        self._done.add(id(type_))
        self._kept.append(type_)
        if not type_.complete:
            return
        name = self._called("tag", type_, type_.tag, _content(type_))
        if name is not None:
            self.parts.append(f"{self._enum_body(type_, f' {name}')};")
            self.parts.append(f'_Static_assert(sizeof(enum {name}) == {type_.bytes}, "enum {name}");')

    def _enum_body(self, type_: Enum, name: str) -> str:
        values = "".join(f"\t{self._enumerator(one)} = {_number(value)},\n" for one, value in type_.values)
        packed = " __attribute__((packed))" if type_.bytes < 4 else ""
        return f"enum{name} {{\n{values}}}{packed}"

    def _enumerator(self, name: str) -> str:
        self.identifiers.add(name)
        return self._called("ordinary", Type(), name, object()) or name

    def _record(self, type_: Record) -> None:
        if id(type_) in self._done:
            return
        if not type_.complete:
            raise ValueError(f"{type_.kind} {type_.tag} is needed, but no more than declared")
        if id(type_) in self._begun:
            raise ValueError("a type that is made of itself")
        self._begun.add(id(type_))
        self._kept.append(type_)
        for member in type_.members:
            self.need(member.type)
        self._done.add(id(type_))
        if type_.tag is None:
            return
        name = self._called("tag", type_, type_.tag, _content(type_))
        if name is not None:
            self.parts.append(f"{self._body(type_, self._shapes.of(type_), f' {name}')};")
            self.parts.extend(self._asserts(f"{type_.kind} {name}", type_))

    def _body(self, record: Record, shape: Shape, name: str = "") -> str:
        lines: list[str] = []
        for number, placed in enumerate(shape.members):
            at = placed.member.bit - placed.padding
            lines += _padding(at, placed.padding, number)
            lines.append(f"{self._member(placed)};")
        if shape.padding:
            lines += _padding(8 * (record.bytes - shape.padding), 8 * shape.padding, len(shape.members))
        inside = "".join(f"\t{line}\n" for text in lines for line in text.split("\n"))
        said = (["packed"] if shape.packed else []) + ([f"aligned({shape.aligned})"] if shape.aligned else [])
        return f"{record.kind}{name} {{\n{inside}}}{_attribute(said)}"

    def _member(self, placed: Placed) -> str:
        member = placed.member
        said = (["packed"] if placed.packed else []) + (
            [f"aligned({placed.aligned})"] if placed.aligned else []
        )
        if member.name is None and isinstance(member.type, Record) and member.type.tag is None:
            shape = self._shapes.of(member.type, packed=placed.packed)
            return self._body(member.type, shape) + _attribute(said)
        self.identifiers.add(member.name or "")
        width = "" if member.bits is None else f":{member.bits}"
        return self._text(_closed(member.type), f"{member.name or ''}{width}") + _attribute(said)

    def _asserts(self, name: str, record: Record) -> Iterator[str]:
        """Yield what proves the size of a type and the place of each member."""
        yield f'_Static_assert(sizeof({name}) == {record.bytes}, "{name}");'
        for path, offset in _places(record, "", 0):
            place = f"__builtin_offsetof({name}, {path}) == {offset}"
            yield f'_Static_assert({place}, "{name}.{path}");'


def _places(record: Record, prefix: str, base: int) -> Iterator[tuple[str, int]]:
    for member in record.named():
        if member.bits is not None:
            continue
        path, offset = prefix + (member.name or ""), base + member.offset
        yield path, offset
        inner, steps = member.type, ""
        while isinstance(inner, Array) and inner.count:
            inner, steps = inner.target, f"{steps}[0]"
        if isinstance(inner, Record) and inner.tag is None:
            yield from _places(inner, f"{path}{steps}.", offset)


def _closed(type_: Type) -> Type:
    """Return a type in which an open array has no elements: the compiler takes that anywhere."""
    if isinstance(type_, Array) and type_.count is None:
        return Array(type_.fetch, 0)
    return type_


def _padding(at: int, bits: int, number: int) -> list[str]:
    """Return members that take ``bits`` from a bit on."""
    begin = min(-at % 8, bits)
    count, rest = divmod(bits - begin, 8)
    lines = [f"unsigned char :{begin};"] if begin else []
    lines += [f"unsigned char __padding{number}[{count}];"] if count else []
    return lines + ([f"unsigned char :{rest};"] if rest else [])


def _attribute(said: list[str]) -> str:
    return f" __attribute__(({', '.join(said)}))" if said else ""


def _number(value: int) -> str:
    """Return an enumerator's value, as C can write it."""
    return f"(-{-value - 1} - 1)" if value < 0 else f"{value}"


def _content(type_: Record | Enum, depth: int = 0) -> object:
    """Return what tells types of one name apart."""
    if isinstance(type_, Enum):
        return type_.bytes, type_.values
    return (type_.kind, type_.bytes, tuple(_member_content(member, depth) for member in type_.members))


def _member_content(member: Member, depth: int) -> object:
    inner: object = None
    if isinstance(member.type, (Record, Enum)) and member.type.tag is None and depth < 32:
        inner = _content(member.type, depth + 1)
    return member.name, member.bit, member.bits, spelling(member.type), inner
