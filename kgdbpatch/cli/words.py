"""Take words that need no conversion as they are: typer would import pydantic for them, which is slow.

Typer does from where a parameter keeps its converter in ``_runtime_param``. It does all others, and errors.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from typer.core import TyperCommand, TyperGroup

__all__ = ["Command", "Group"]

_LIMITS = ("parser", "min", "max", "formats", "mode", "path_type")
_MORE_LIMITS = ("exists", "writable", "resolve_path", "allow_dash")


class _Word:
    """What converts one parameter's words; ``parameter`` is typer's."""

    def __init__(self, parameter: Any) -> None:
        self._parameter = parameter

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the value of a parameter."""
        several, one = param.multiple or param.nargs == -1, param.nargs == 1 and not param.multiple
        told = param.type_descriptor
        if value is None:
            return () if several else None
        if one and type(value) is told.annotation and value == param.default:
            return value
        if type(value) is str and _unlimited(told.parameter_info):
            if told.annotation is str:
                return value
            if told.annotation is Path and (os.access(value, os.R_OK) or not os.path.lexists(value)):
                return Path(value)
        self._parameter._runtime_param = None
        return self._parameter.get_runtime_param().coerce(value, param=param, ctx=ctx)


def _unlimited(info: Any) -> bool:
    """Tell whether what typer knows of a parameter lets any word through."""
    if any(getattr(info, name, None) is not None for name in _LIMITS):
        return False
    any_file = info.file_okay and info.dir_okay
    return any_file and not any(getattr(info, name, False) for name in _MORE_LIMITS)


class _Spared:
    """What takes the words of its parameters as they are."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, that for help included."""
        parameters: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for parameter in parameters:
            if getattr(parameter, "_runtime_param", ...) is None and hasattr(parameter, "type_descriptor"):
                parameter._runtime_param = _Word(parameter)
        return parameters


class Group(_Spared, TyperGroup):
    """A group of commands, whose own words are taken as they are."""


class Command(_Spared, TyperCommand):
    """A command whose words are taken as they are."""
