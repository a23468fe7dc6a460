"""What is damaged in debug information is one error, `BadImage`, wherever it is met."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from struct import error as struct_error
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from kgdbpatch.errors import BadImage, KgdbPatchError

__all__ = ["guarded"]

P = ParamSpec("P")
R = TypeVar("R")
_DAMAGE = (LookupError, ValueError, RecursionError, OverflowError, struct_error, MemoryError)


class _OfAFile(Protocol):
    path: Path


S = TypeVar("S", bound=_OfAFile)


def guarded(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Let a method of what reads a file (``path``) raise `BadImage` for what it cannot make sense of."""

    @wraps(method)
    def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(self, *args, **kwargs)
        except KgdbPatchError:
            raise
        except _DAMAGE as error:
            why = "nested without end" if isinstance(error, RecursionError) else str(error).strip("'\"")
            raise BadImage(self.path, f"damaged debug information: {why or type(error).__name__}") from error

    return call
