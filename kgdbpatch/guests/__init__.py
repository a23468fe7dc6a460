"""Guest profiles: what is Darwin's and what is Linux's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kgdbpatch.errors import Misuse
from kgdbpatch.guests.profile import ArenaPlan, LogLine, Profile, Window

if TYPE_CHECKING:
    from kgdbpatch.image import Image

__all__ = ["ArenaPlan", "LogLine", "Profile", "Window", "detect", "profile", "profiles"]

_LINUX = ("linux_banner", "__start___ex_table")


def profiles() -> tuple[str, ...]:
    """Return the names of the bundled profiles."""
    return ("darwin", "linux")


def profile(name: str) -> Profile:
    """Return the profile called ``name``; raise `Misuse` with the known ones."""
    if name == "darwin":
        from kgdbpatch.guests.darwin import Darwin

        return Darwin()
    if name == "linux":
        from kgdbpatch.guests.linux import Linux

        return Linux()
    raise Misuse(f"no profile '{name}'; there are {', '.join(profiles())}")


def detect(image: Image) -> Profile:
    """Return the profile that a kernel file looks like it is of: by its format, tables and symbols."""
    if image.format == "mach-o":
        return profile("darwin")
    if any(section.name == "__ex_table" for section in image.sections) or any(
        symbol.name in _LINUX for symbol in image.symbols
    ):
        return profile("linux")
    from kgdbpatch.guests.unknown import Unknown

    return Unknown()
