"""Types as plain values, for programs that read JSON."""

from __future__ import annotations

from typing import Any

from kgdbpatch.types.declare import prototype, spelling
from kgdbpatch.types.model import Base, Enum, Function, Member, Record, Type, Typedef, stripped

__all__ = ["member_record", "type_record"]


def type_record(type_: Type) -> dict[str, Any]:
    """Return a type's ``name``, ``kind``, ``size`` and ``members``; what more there is of its kind."""
    if isinstance(type_, Function):
        parameters = [{"name": one.name, "type": spelling(one.type)} for one in type_.parameters]
        known = _known(type_.name, "function", None, ())
        more = {"returns": spelling(type_.returns), "parameters": parameters, "variadic": type_.variadic}
        return {**known, **more, "declaration": prototype(type_)}
    plain = stripped(type_)
    members = plain.members if isinstance(plain, Record) else ()
    values = {"values": dict(plain.values)} if isinstance(plain, Enum) else {}
    if isinstance(type_, Typedef):
        return {
            **_known(type_.name, "typedef", type_.size, members),
            "type": spelling(type_.target),
            **values,
        }
    if isinstance(type_, Record):
        return _known(type_.tag, type_.kind, type_.size, members)
    if isinstance(type_, Enum):
        return {**_known(type_.tag, "enum", type_.size, ()), **values}
    return _known(type_.name if isinstance(type_, Base) else spelling(type_), "base", type_.size, ())


def _known(name: str | None, kind: str, size: int | None, members: tuple[Member, ...]) -> dict[str, Any]:
    return {"name": name, "kind": kind, "size": size, "members": [member_record(one) for one in members]}


def member_record(member: Member) -> dict[str, Any]:
    """Return a member: its byte ``offset``; of a bit-field ``bit_offset``, from that byte's first bit on.

    A structure or union without a tag has its own ``members``, counted from its own begin.
    """
    field = member.bits is not None
    found: dict[str, Any] = {
        "name": member.name,
        "type": spelling(member.type),
        "offset": member.offset,
        "size": member.type.size,
        "bit_offset": member.bit % 8 if field else None,
        "bit_size": member.bits,
    }
    if isinstance(member.type, Record) and member.type.tag is None:
        found["members"] = [member_record(one) for one in member.type.members]
    return found
