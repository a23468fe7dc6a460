"""Compare two functions' prototypes by what a caller of one must not find otherwise in the other."""

from __future__ import annotations

from kgdbpatch.types.declare import spelling
from kgdbpatch.types.model import Array, Base, Enum, Function, Pointer, Qualified, Record, Type, Typedef, Void

__all__ = ["same_signature"]

_DEEP = 16  # pointers to pointers that are followed


def same_signature(a: Function, b: Function) -> list[str]:
    """Return in words what differs between two prototypes; nothing where one can stand for the other.

    Names of parameters and typedefs count for nothing, nor do qualifiers and signedness. What counts: how
    many parameters there are, the size and class (integer, float, pointer, structure) of each and of the
    result, and the tag of a structure that is passed or pointed to. ``void *`` is as good as any pointer.
    """
    found = [f"the result: {why}" for why in _differences(a.returns, b.returns)]
    if a.variadic != b.variadic:
        found.append("only one takes further arguments (...)")
    unknown = any(not one.prototyped and not one.parameters for one in (a, b))
    ours, theirs = a.parameters, b.parameters
    if len(ours) != len(theirs) and not unknown:
        found.append(f"{len(ours)} parameters against {len(theirs)}")
    for number, (one, other) in enumerate(zip(ours, theirs, strict=False), 1):
        name = one.name or other.name
        called = f"parameter {number} ({name})" if name else f"parameter {number}"
        found += [f"{called}: {why}" for why in _differences(one.type, other.type)]
    return found


def _differences(a: Type, b: Type) -> list[str]:
    (ours, _), (theirs, _) = _plain(a), _plain(b)
    kinds = _class(ours), _class(theirs)
    shown = f"'{spelling(a)}' against '{spelling(b)}'"
    if kinds[0] != kinds[1]:
        return [f"{kinds[0]} against {kinds[1]}: {shown}"]
    if kinds[0] == "a pointer":
        return [f"pointers to other structures: {shown}"] if _point_elsewhere(ours, theirs) else []
    if ours.size != theirs.size:
        return [f"{_bytes(ours)} against {_bytes(theirs)}: {shown}"]
    if isinstance(ours, Record) and _tag(a) != _tag(b):
        return [f"other structures: {shown}"]
    return []


def _bytes(type_: Type) -> str:
    size = type_.size
    return "an unknown size" if size is None else f"{size} byte{'s' * (size != 1)}"


def _plain(type_: Type) -> tuple[Type, str | None]:
    """Return a type behind qualifiers and typedefs, and the name of the last typedef."""
    name = None
    for _ in range(1000):
        if isinstance(type_, Typedef):
            name = type_.name
        elif not isinstance(type_, Qualified):
            return type_, name
        type_ = type_.target
    raise ValueError("a type that is made of itself")


def _class(type_: Type) -> str:
    if isinstance(type_, Base):
        return f"a {type_.encoding} number" if type_.encoding in ("float", "complex") else "an integer"
    if isinstance(type_, Enum):
        return "an integer"
    if isinstance(type_, Record):
        return f"a {type_.kind}"
    return "void" if isinstance(type_, Void) else "a pointer"  # arrays and functions are passed as such


def _tag(type_: Type) -> tuple[str, str] | None:
    """Return kind and tag of a structure, the typedef's name where it has no tag; None for all else."""
    plain, name = _plain(type_)
    return (plain.kind, plain.tag or name or "") if isinstance(plain, Record) else None


def _point_elsewhere(a: Type, b: Type, depth: int = 0) -> bool:
    """Tell whether pointers lead to different structures, at the end of as many pointers."""
    a, b = _target(a), _target(b)
    if isinstance(_plain(a)[0], Void) or isinstance(_plain(b)[0], Void):
        return False
    if _tag(a) is not None or _tag(b) is not None:
        return _tag(a) != _tag(b)
    ours, theirs = _plain(a)[0], _plain(b)[0]
    if isinstance(ours, Pointer) and isinstance(theirs, Pointer) and depth < _DEEP:
        return _point_elsewhere(ours, theirs, depth + 1)
    return False


def _target(type_: Type) -> Type:
    """Return what a pointer, or what is passed as one, leads to."""
    return type_.target if isinstance(type_, (Pointer, Array)) else type_
