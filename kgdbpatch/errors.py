"""The error families; each carries the exit code of the command line and its own data.

Every error raised on purpose descends from `KgdbPatchError`. The four families answer one
question each: was it the caller's words (`Misuse`), a rule of safety (`Refused`), the remote
side (`TargetLost`) or a file (`BadInput`)?
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = [
    "BadImage",
    "BadInput",
    "BadPatch",
    "BuildFailed",
    "CommandFailed",
    "ComponentDamaged",
    "DeadKernel",
    "KgdbPatchError",
    "MemoryFault",
    "MissingTool",
    "Misuse",
    "OutOfReach",
    "Outdated",
    "Refused",
    "TargetBusy",
    "TargetLost",
    "TargetTimeout",
    "UnknownGuest",
    "UnknownSymbol",
    "WrongKernel",
]


class KgdbPatchError(Exception):
    """Root of all errors raised on purpose; its text is one line for people.

    ``symbolize``, where whoever passes it on knows the kernel, names its addresses.
    """

    exit_code = 1
    symbolize: Callable[[int], str] | None = None


class Misuse(KgdbPatchError, ValueError):
    """The caller's words make no sense here (exit code 2)."""

    exit_code = 2


class UnknownSymbol(Misuse, KeyError):
    """No symbol of that name; ``near`` lists close ones."""

    def __init__(self, name: str, where: str, near: tuple[str, ...] = ()) -> None:
        self.name, self.near = name, near
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        super().__init__(f"no symbol '{name}' in {where}{hint}")

    def __str__(self) -> str:
        return str(self.args[0])


class UnknownGuest(Misuse, LookupError):
    """No guest of that name is running."""


class MemoryFault(Misuse, LookupError):
    """The guest has no memory at ``address`` (as presently mapped)."""

    def __init__(self, message: str, address: int) -> None:
        self.address = address
        super().__init__(message)


class Refused(KgdbPatchError):
    """A rule of safety forbids it (exit code 3); carries rule, address and nearest good site."""

    exit_code = 3

    def __init__(
        self, rule: str, message: str, address: int | None = None, nearest: int | None = None
    ) -> None:
        self.rule, self.address, self.nearest = rule, address, nearest
        super().__init__(message)


class TargetLost(KgdbPatchError, ConnectionError):
    """QEMU or GDB went away or broke its protocol (exit code 4); quotes their last words."""

    exit_code = 4


class DeadKernel(TargetLost):
    """The kernel has panicked, hangs or was reset (exit code 4); ``state`` says which."""

    def __init__(self, message: str, state: str) -> None:
        self.state = state
        super().__init__(message)


class ComponentDamaged(TargetLost):
    """What the kernel component keeps in the guest was overwritten, or is another version's (exit code 4)."""


class MissingTool(TargetLost):
    """A program that is needed to reach a guest is not installed (exit code 4); names its package."""


class CommandFailed(TargetLost):
    """QEMU or GDB refuses a command (exit code 4); quotes its words."""


class TargetTimeout(TargetLost, TimeoutError):
    """Something awaited did not happen before its deadline (exit code 4)."""


class TargetBusy(TargetTimeout):
    """Another client holds the guest and did not let go in time (exit code 4)."""


class Outdated(TargetBusy):
    """What was planned from is no longer so; planned anew it may well be done (exit code 4)."""


class BadInput(KgdbPatchError, ValueError):
    """An image or patch file is not usable (exit code 5)."""

    exit_code = 5


class BadImage(BadInput):
    """The kernel image cannot be read; ``path`` says which."""

    def __init__(self, path: object, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"{path}: {reason}")


class WrongKernel(BadInput):
    """The image is not the kernel that is running."""


class BadPatch(BadInput):
    """A patch file does not assemble, compile or link; quotes the tool."""


class OutOfReach(BadPatch):
    """A branch of a payload does not get to its target from where the payload is to stand."""


class BuildFailed(KgdbPatchError):
    """A guest's image could not be built (exit code 1); quotes the build's own words."""
