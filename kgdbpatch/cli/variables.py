"""Commands about the variables of patches: get, set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument

from kgdbpatch.cli.options import AsJson, ImageFile, Name, Wait, attach
from kgdbpatch.cli.output import hexadecimal, json_line, table, tell
from kgdbpatch.cli.words import Command
from kgdbpatch.errors import KgdbPatchError, Misuse, UnknownSymbol

if TYPE_CHECKING:
    from kgdbpatch.kernel import Kernel, Patch
    from kgdbpatch.kernel.variables import PatchVariable

__all__ = ["get", "set_command"]

_Patch = Annotated[
    str, Argument(metavar="PATCH", help="A patch: its id, or its C file's name without the suffix.")
]


class _WithNumbers(Command):
    """A command whose arguments may be negative numbers."""

    ignore_unknown_options = True


@dataclass(frozen=True, slots=True)
class _Shown:
    """How values of one guest are shown."""

    kernel: Kernel

    def symbolize(self, address: int) -> str:
        return self.kernel.symbolize(address)

    def text(self, one: PatchVariable) -> str:
        from kgdbpatch.variables.values import show

        return show(one.shape, one.value, self.symbolize)

    def record(self, patch: Patch, one: PatchVariable) -> dict[str, Any]:
        known = {"patch": patch.id, "name": one.name, "type": one.type, "address": one.address}
        value = one.value.hex() if isinstance(one.value, bytes) else one.value
        more = {"symbol": self.symbolize(one.address), "size": one.size, "constant": one.constant}
        return {**known, **more, "value": value, "text": self.text(one)}


def get(
    name: Name,
    patch: _Patch,
    variable: Annotated[
        str | None, Argument(metavar="[VAR]", help="hits, stats.count[3], function::name; none: all.")
    ] = None,
    image: ImageFile = None,
    as_json: AsJson = False,
) -> None:
    """Show variables of a patch's payload, static ones too; the guest is not stopped.

    A C payload's variables are known by name and type as long as the patch stands, to any client. What a
    payload only writes, or only reads, is dropped by the compiler where it is static: make it volatile.

    \b
    Examples:
      kgdbpatch get darwin 1
      kgdbpatch get darwin packet_counter counter
      kgdbpatch get darwin 1 'stats.count[3]' --json
    """
    with attach(name, image) as kernel:
        found, shown = kernel.find_patch(kernel.patch_id(patch)), _Shown(kernel)
        if variable is not None:
            one = found.variables.describe(variable)
            if as_json:
                json_line(shown.record(found, one))
            else:
                tell(shown.text(one))
            return
        every = [found.variables.describe(key) for key in found.variables]
        if as_json:
            for one in every:
                json_line(shown.record(found, one))
        else:
            rows = [(one.name, one.type, hexadecimal(one.address), shown.text(one)) for one in every]
            table(("NAME", "TYPE", "ADDRESS", "VALUE"), rows)


def set_command(
    name: Name,
    patch: _Patch,
    variable: Annotated[str, Argument(metavar="VAR", help="hits, stats.count[3], function::name.")],
    value: Annotated[
        str, Argument(metavar="VALUE", help="A number, an enumerator, a text, a name's address; or JSON.")
    ],
    image: ImageFile = None,
    wait: Wait = 10.0,
    as_json: AsJson = False,
) -> None:
    """Set a variable of a patch's payload, or a part of one; the guest is not stopped.

    What has 1, 2, 4 or 8 bytes is written at once: the payload sees the old value or the new one. For a
    pointer, a name of the kernel stands for its address, PATCH:NAME for that of another patch's function or
    variable. Whole arrays and structures are written as JSON: [1, 2, 3], {"limit": 7}.

    \b
    Examples:
      kgdbpatch set darwin packet_counter counter 0
      kgdbpatch set darwin 1 'stats.count[3]' 7
      kgdbpatch set darwin 1 'stats.name' '"eth0"'
      kgdbpatch set darwin 1 'table[5].handler' 2:serve
    """
    from kgdbpatch.variables.values import parse

    with attach(name, image, wait) as kernel:
        found, shown = kernel.find_patch(kernel.patch_id(patch)), _Shown(kernel)

        def address(word: str) -> int:
            try:
                return kernel.resolve_name(word)
            except UnknownSymbol:
                raise
            except KgdbPatchError as error:
                raise Misuse(f"'{word}' is no value of {shape.text}: {error}") from error

        variables = found.variables
        shape = variables.shape(variable)
        variables[variable] = parse(value, shape, address)
        one = variables.describe(variable)
        if as_json:
            json_line(shown.record(found, one))
        else:
            tell(f"{variable} = {shown.text(one)}")


set_command.command_class = _WithNumbers  # type: ignore[attr-defined]
