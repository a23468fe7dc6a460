"""Commands behind whose ``--`` stand another program's arguments, whatever they look like."""

from __future__ import annotations

from typing import Any, ClassVar

from kgdbpatch.cli.words import Command

__all__ = ["WithDashes", "behind_dashes"]

_DASHES = "--"
_REST = "kgdbpatch.behind_dashes"  # in a context's meta


class WithDashes(Command):
    """A command that keeps what stands behind ``--`` for `behind_dashes`; ``whose`` arguments these are."""

    whose: ClassVar[str] = "QEMU"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read what stands before ``--``."""
        if _DASHES in args:
            at = args.index(_DASHES)
            ctx.meta[_REST] = tuple(args[at + 1 :])
            args = args[:at]
        rest: list[str] = super().parse_args(ctx, args)
        return rest

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return what stands behind the command in its usage line."""
        return [*super().collect_usage_pieces(ctx), f"[-- {self.whose}_ARGUMENTS]"]


def behind_dashes(ctx: Any) -> tuple[str, ...]:
    """Return what stood behind ``--`` on a command's line."""
    return tuple(ctx.meta.get(_REST, ()))
