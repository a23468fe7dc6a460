"""The command that calls a function of a running kernel."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Option

from kgdbpatch.cli import completion
from kgdbpatch.cli.options import AsJson, ImageFile, Name, Wait, attach
from kgdbpatch.cli.output import hexadecimal, json_line, tell
from kgdbpatch.cli.waiting import progress
from kgdbpatch.cli.words import Command
from kgdbpatch.results import Called

__all__ = ["call"]


class _WithNumbers(Command):
    """A command whose arguments may be negative numbers."""

    ignore_unknown_options = True


def call(
    name: Name,
    function: Annotated[
        str,
        Argument(
            metavar="FUNC",
            help="A function of the kernel, its address, or PATCH:NAME of a payload's.",
            autocompletion=completion.functions,
        ),
    ],
    arguments: Annotated[
        list[str] | None,
        Argument(
            metavar="[ARGS]...",
            help="Up to eight: 42, -1, 0x…, a name, name+0x18, '\"text\"'.",
            autocompletion=completion.functions,
        ),
    ] = None,
    timeout: Annotated[
        float,
        Option("--timeout", metavar="SECONDS", min=0, help="How long the function may take, at most."),
    ] = 10.0,
    untyped: Annotated[
        bool, Option("--untyped", help="Check no arguments, print 32 bits, as if no types were known.")
    ] = False,
    signed: Annotated[bool, Option("--signed", help="Print the value as a signed number.")] = False,
    image: ImageFile = None,
    wait: Wait = 10.0,
    as_json: AsJson = False,
) -> None:
    """Call a function of the running kernel and print what it returns, by its type.

    A process that makes a system call runs it on its way in, where the kernel may do anything: it may
    sleep. A name stands for its address, a text in double quotes for that of a C string, which is there
    until the function has returned. What the function does to the kernel is yours to answer for.

    Where the kernel's debug information (DWARF or BTF) has the function's prototype, number and kinds of
    the arguments are checked, names of an enumeration's constants are taken where one is wanted, true and
    false for bool, and 64 bits are passed and returned in two registers. Without, or with --untyped, all
    are words, and the value is 32 bits.

    Refused are functions of modules, start-up code, code for the MMU switched off, and what never
    returns. One that takes longer than --timeout goes on; until it has returned no other is called.

    \b
    Examples:
      kgdbpatch call linux nr_free_buffer_pages
      kgdbpatch call linux strlen '"hello"'
      kgdbpatch call darwin packet_counter:reset
      kgdbpatch call linux msleep 50 --timeout 2
      kgdbpatch call darwin strncmp '"mach"' '"mach_kernel"' 4 --signed --json
    """
    from kgdbpatch.kernel.called import argument

    with attach(name, image, wait) as kernel:
        loaded = kernel.image
        address = kernel.resolve_name(function)
        symbol = kernel.symbolize(address)
        with progress(f"calling {function}"):
            if untyped:
                words = [argument(word, loaded, kernel.resolve_name) for word in arguments or ()]
                value = kernel.call(address, *words, deadline=timeout)
                as_signed = value - (1 << 32) if value >> 31 else value
                called = Called(value, as_signed, None, f"{value} ({hexadecimal(value)})")
            else:
                called = kernel.call_typed(address, *(arguments or ()), deadline=timeout)
    if as_json:
        known = {"function": function, "address": address, "symbol": symbol}
        json_line({**known, "value": called.value, "signed": called.signed, "type": called.type})
    elif signed and called.value is not None:
        tell(f"{called.signed} ({hexadecimal(called.value)})")
    elif called.text:
        tell(called.text)


call.command_class = _WithNumbers  # type: ignore[attr-defined]
