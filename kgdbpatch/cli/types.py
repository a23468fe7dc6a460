"""The command that shows a kernel's C types: type."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from kgdbpatch.cli.options import AsJson, ImageOrName
from kgdbpatch.cli.output import json_line, table, tell
from kgdbpatch.cli.waiting import progress
from kgdbpatch.errors import Misuse

if TYPE_CHECKING:
    from kgdbpatch.types import KernelTypes

__all__ = ["type_command"]

_GLOB = frozenset("*?[")


def type_command(
    image: ImageOrName,
    name: Annotated[
        str, Argument(metavar="TYPE", help="A type, a function, a type.member, or names like this: 'udp_*'.")
    ],
    file: Annotated[
        Path | None, Option("--image", metavar="FILE", help="The file with the kernel's debug information.")
    ] = None,
    header: Annotated[bool, Option("--header", help="Print a C header with it and what it needs.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a C type of a kernel: members with place and size, holes; or a function's prototype.

    Needs debug information (DWARF or BTF) in the kernel's file, in FILE.elf or FILE.debug beside it,
    or in the one given. Object files and modules have types, too. A glob lists names.

    \b
    Examples:
      kgdbpatch type linux 'struct sk_buff'
      kgdbpatch type linux sk_buff.len --json
      kgdbpatch type vmlinux udp_sendmsg
      kgdbpatch type linux 'struct sk_*'
      kgdbpatch type linux 'struct sock' --header > sock.h
    """
    from kgdbpatch.kernel import catalog

    with progress(f"reading the types of {image}"):
        types = catalog.open_types(image, file)
        _ = types.index
    if header:
        tell(types.header([name]).rstrip("\n"), keep="\n\t")
    elif _GLOB & set(name):
        _list(types, name, as_json)
    elif "." in name:
        _member(types, name, as_json)
    elif as_json:
        json_line(types.record(name))
    else:
        tell(types.declaration(name), keep="\n\t")


def _list(types: KernelTypes, pattern: str, as_json: bool) -> None:
    found = types.names(pattern)
    if not found:
        raise Misuse(f"no type or function in {types.path.name} is like '{pattern}'")
    if as_json:
        for kind, name in found:
            json_line({"name": name, "kind": kind})
    else:
        table(("KIND", "NAME"), found)


def _member(types: KernelTypes, name: str, as_json: bool) -> None:
    owner, _, path = name.partition(".")
    record: dict[str, Any] = types.member_record(owner, path)
    if as_json:
        json_line(record)
        return
    bits = f", bit {record['bit_offset']}, {record['bit_size']} bits" if record["bit_size"] else ""
    tell(f"{record['declaration']};\t/* offset {record['offset']}{bits}, size {record['size']} */", keep="\t")
