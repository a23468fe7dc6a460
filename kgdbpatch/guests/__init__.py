"""Guest profiles: what is Darwin's and what is Linux's."""

from __future__ import annotations

from kgdbpatch.errors import Misuse
from kgdbpatch.guests.profile import ArenaPlan, LogLine, Profile, Window

__all__ = ["ArenaPlan", "LogLine", "Profile", "Window", "profile", "profiles"]


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
