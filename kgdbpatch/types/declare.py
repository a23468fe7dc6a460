"""Write types as C does: declarators from the inside out, and structures as pahole prints them."""

from __future__ import annotations

from collections.abc import Callable

from kgdbpatch.types.model import (
    Array,
    Base,
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

__all__ = ["declarator", "layout", "prototype", "spelling"]

_COLUMN = 60  # where the comments begin
_DEEP = 64  # more levels of pointers, arrays and functions are no program's
Body = Callable[[Type], str | None]  # how a type that is no pointer and the like is written; None: by name


def spelling(type_: Type) -> str:
    """Return a type as C spells it without a variable: ``const char *``."""
    return declarator(type_, "")


def declarator(type_: Type, name: str, body: Body | None = None, depth: int = 0) -> str:
    """Return a declaration of ``name``: ``int (*handler)(struct sk_buff *skb)``, without the semicolon.

    ``body`` writes structures, unions and enumerations without a tag, else ``struct {...}``.
    """
    if depth > _DEEP:
        raise ValueError("a type that is made of itself")
    if isinstance(type_, Pointer):
        inner = type_.target
        text = f"*{name}"
        if isinstance(stripped(inner, typedefs=False), (Array, Function)):
            text = f"({text})"
        return declarator(inner, text, body, depth + 1)
    if isinstance(type_, Qualified):
        inner = type_.target
        if isinstance(inner, Pointer):
            space = " " if name and name[0] not in ")[" else ""
            return declarator(inner, f"{type_.qualifier}{space}{name}", body, depth + 1)
        if isinstance(inner, (Array, Function)):  # its elements are qualified; a function: never returns
            return declarator(inner, name, body, depth + 1)
        return f"{type_.qualifier} {declarator(inner, name, body, depth + 1)}"
    if isinstance(type_, Array):
        if type_.vector:
            size = type_.size or 0
            return declarator(
                type_.target, f"__attribute__((vector_size({size}))) {name}".rstrip(), body, depth + 1
            )
        return declarator(
            type_.target, f"{name}[{'' if type_.count is None else type_.count}]", body, depth + 1
        )
    if isinstance(type_, Function):
        return declarator(type_.returns, f"{name}({_parameters(type_, body, depth)})", body, depth + 1)
    return f"{_plain(type_, body)} {name}".rstrip()


def _parameters(function: Function, body: Body | None, depth: int) -> str:
    parts = [declarator(one.type, one.name or "", body, depth + 1) for one in function.parameters]
    if function.variadic:
        parts.append("...")
    if not parts and function.prototyped:
        return "void"
    return ", ".join(parts) if parts != ["..."] else ""


def _plain(type_: Type, body: Body | None) -> str:
    """Return a type that is a name or a body."""
    if body is not None and (text := body(type_)) is not None:
        return text
    if isinstance(type_, (Base, Typedef)):
        return type_.name
    if isinstance(type_, (Record, Enum)):
        kind = type_.kind if isinstance(type_, Record) else "enum"
        if type_.tag:
            return f"{kind} {type_.tag}"
        return f"{kind} {{...}}"
    return "void"


def prototype(function: Function) -> str:
    """Return a function's declaration."""
    return f"{declarator(function, function.name or '')};"


def layout(type_: Type, name: str | None = None) -> str:
    """Return a type's definition, a structure's with the place and size of each member and its holes."""
    if isinstance(type_, Function):
        return prototype(type_)
    if isinstance(type_, Typedef):
        return f"typedef {declarator(type_.target, type_.name, lambda one: _inline(one, 0, 0, 0))};"
    if isinstance(type_, (Record, Enum)):
        return f"{_body(type_, 0, 0, 0, tagged=True)};"
    return f"{spelling(type_)};"


def _inline(type_: Type, indent: int, base: int, depth: int) -> str | None:
    """Return the body of what has no tag; None for what has a name."""
    nameless = isinstance(type_, (Record, Enum)) and type_.tag is None
    return _body(type_, indent, base, depth) if nameless else None


def _body(type_: Type, indent: int, base: int, depth: int, tagged: bool = False) -> str:
    if isinstance(type_, Enum):
        return _enum(type_, indent, tagged)
    if not isinstance(type_, Record):
        return spelling(type_)
    head = f"{type_.kind} {type_.tag}" if tagged and type_.tag else type_.kind
    if not type_.complete:
        return head
    if depth > _DEEP:
        raise ValueError("a type that is made of itself")
    tabs = "\t" * (indent + 1)
    lines = [f"{head} {{"]
    end, total, holes, hole_bytes = 8 * base, 0, 0, 0
    for member in type_.members:
        at = 8 * base + member.bit
        if type_.kind == "struct" and at > end:
            gap = at - end
            holes += 1
            if gap >= 8:
                hole_bytes += gap // 8
                lines.append(f"{tabs}/* XXX {gap // 8} byte{'s' * (gap >= 16)} hole */")
            else:
                lines.append(f"{tabs}/* XXX {gap} bit{'s' * (gap > 1)} hole */")
        lines.append(_line(member, indent + 1, at, depth))
        taken = member.bits if member.bits is not None else 8 * (member.type.size or 0)
        end, total = max(end, at + taken), total + taken
    lines.append(f"{tabs}/* size: {type_.bytes}, members: {len(type_.members)} */")
    if holes and type_.kind == "struct":
        lines.append(f"{tabs}/* sum of members: {total // 8}, holes: {holes}, sum of holes: {hole_bytes} */")
    padding = type_.bytes + base - -(-end // 8)
    if type_.kind == "struct" and padding > 0:
        lines.append(f"{tabs}/* padding: {padding} */")
    return "\n".join([*lines, "\t" * indent + "}"])


def _line(member: Member, indent: int, at: int, depth: int) -> str:
    """Return the line of a member, or the lines, where it is a structure without a tag."""
    text = declarator(
        member.type,
        (member.name or "") + ("" if member.bits is None else f":{member.bits}"),
        lambda one: _inline(one, indent, at // 8, depth + 1),
    )
    place = f"{at // 8:5}" if member.bits is None else f"{at // 8:5}:{at % 8}"
    size = member.type.size or 0
    comment = (
        f"/* {place} {size if member.bits is None else f'{member.bits} bit' + 's' * (member.bits != 1):>5} */"
    )
    *above, last = ("\t" * indent + text + ";").split("\n")
    return "\n".join([*above, f"{last.ljust(_COLUMN - 7 * indent)} {comment}"])


def _enum(type_: Enum, indent: int, tagged: bool) -> str:
    head = f"enum {type_.tag}" if tagged and type_.tag else "enum"
    if not type_.complete:
        return head
    tabs = "\t" * (indent + 1)
    lines = [f"{head} {{", *(f"{tabs}{name} = {value}," for name, value in type_.values)]
    return "\n".join([*lines, f"{tabs}/* size: {type_.bytes} */", "\t" * indent + "}"])
