"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from kgdbpatch.cli import completion
from kgdbpatch.cli.waiting import progress
from kgdbpatch.errors import KgdbPatchError, Misuse

if TYPE_CHECKING:
    from kgdbpatch.image import Function, Image
    from kgdbpatch.kernel import Kernel

__all__ = [
    "AsJson",
    "ImageFile",
    "ImageOrName",
    "Name",
    "Profile",
    "Site",
    "Wait",
    "attach",
    "function_at",
    "matching",
    "naming",
]

AsJson = Annotated[bool, Option("--json", help="Print JSON: one object, or one a line.")]
Name = Annotated[
    str,
    Argument(
        metavar="NAME", help="A running guest, as 'kgdbpatch ps' lists it.", autocompletion=completion.guests
    ),
]
Profile = Annotated[
    str,
    Argument(metavar="PROFILE", help="What to boot: darwin or linux.", autocompletion=completion.profiles),
]
ImageOrName = Annotated[
    str,
    Argument(
        metavar="IMAGE|NAME",
        help="A kernel file (Mach-O or ELF), a running guest, or memory:NAME: what lies in its RAM.",
        autocompletion=completion.guests,
    ),
]
Site = Annotated[
    str,
    Argument(
        metavar="SITE",
        help="An instruction: func, func+0x18, 0x…, or as oopses and nm do.",
        autocompletion=completion.functions,
    ),
]
ImageFile = Annotated[
    Path | None,
    Option("--image", metavar="FILE", help="The running kernel's file, instead of the recorded one."),
]

Wait = Annotated[
    float,
    Option("--wait", metavar="SECONDS", min=0, help="How long to wait for another client to finish."),
]


@contextmanager
def attach(name: str, image: Path | None, wait: float = 10.0, *, dead: bool = False) -> Iterator[Kernel]:
    """Attach to a running guest; it goes on running afterwards. ``dead``: its kernel need not run."""
    with progress(f"attaching to {name}"):
        from kgdbpatch.kernel import Kernel  # on use: it is slow to import

        kernel = Kernel.attach(name, image=image, wait=wait, dead=dead)
    try:
        yield kernel
    except KgdbPatchError as error:
        error.symbolize = lambda address: kernel.image.symbolize(address)
        raise
    finally:
        kernel.close()


@contextmanager
def naming(image: Image) -> Iterator[None]:
    """Let errors that pass name their addresses by the symbols of an image."""
    try:
        yield
    except KgdbPatchError as error:
        error.symbolize = image.symbolize
        raise


def matching(image: Image, pattern: str) -> list[Function]:
    """Return the functions that a glob names; raise `Misuse` with near names when there are none."""
    found = image.matching(pattern)
    if not found:
        near = image.near(pattern.translate(str.maketrans("", "", "*?[]")))
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise Misuse(f"no function of {image.path.name} is like '{pattern}'{hint}")
    return found


def function_at(image: Image, site: str) -> Function:
    """Return the function that a site is in; raise `Misuse` when it is in none."""
    function = image.function_at(image.resolve(site))
    if function is None:
        raise Misuse(f"'{site}' is in no function of {image.path.name}")
    return function
