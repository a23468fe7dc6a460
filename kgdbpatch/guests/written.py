"""Recipes as text: TOML with a comment at each key that says what it is for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["written"]

_HEAD = """# A guest: its kernel and how it is booted. Files are seen from this file's directory.
# Every key: docs/howto/guest.md ("Add a guest").
"""
_COMMENTS = {
    "personality": "what the operating system is: darwin, linux, or bare (none that is known)",
    "machine": "the board, by name or as a FILE.toml",
    "cpu": "QEMU's -cpu, where it is not the board's usual one",
    "smp": "how many CPUs; a guest with more than one, other than e500s, can be booted, not patched",
    "kernel": "the kernel's file; compressed ones, uImages, cuImages and zImages are unpacked",
    "make": "how that file is made, in this directory, each time the guest is booted",
    "builder": "the module that makes the kernel",
    "memory_mib": "what QEMU gives",
    "announced_mib": "what the kernel uses of it: patches lie above, so with both the same there can be none",
    "ready": "a regex on a console line: the guest is up",
    "boot_deadline": "seconds to wait for that",
    "heartbeat": "seconds within which the workload prints a line like 'beat'",
    "beat": "",
    "panic": "a regex on a console line: the kernel is dead",
    "oops": "a regex on a console line: a fault that it survives",
    "log": "a regex for a syslog line, with the groups time, source, message",
    "boot.loader": "qemu (-kernel, unpacked), as-is (-kernel, nothing unpacked), bootx, device or firmware",
    "boot.initrd": "the initial RAM disk",
    "boot.command_line": "the kernel's; 'mem=' or 'maxmem=' is what hides memory from it",
    "boot.drives": "disk images; never written: what the guest writes goes when it goes",
    "boot.args": "more arguments for QEMU",
}


def written(table: Mapping[str, Any]) -> str:
    """Return the text of a recipe.

    >>> print(written({"kernel": "vmlinux"}).splitlines()[-1])
    kernel = "vmlinux"
    """
    known = [key for key in _COMMENTS if "." not in key]
    keys = sorted((key for key in table if key != "boot"), key=lambda key: (known.index(key), key))
    lines = [_HEAD, *_lines(table, keys, "")]
    boot = table.get("boot", {})
    if boot:
        lines += ["[boot]", "", *_lines(boot, list(boot), "boot.")]
    return "\n".join(lines).rstrip("\n") + "\n"


def _lines(table: Mapping[str, Any], keys: list[str], prefix: str) -> Iterator[str]:
    for key in keys:
        comment = _COMMENTS.get(prefix + key)
        if comment:
            yield f"# {comment}"
        yield f"{key} = {_value(table[key])}"
        yield ""


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_value, value))}]"
    if not isinstance(value, str):
        return repr(value)
    if "\\" in value and not re.search(r"['\x00-\x08\x0a-\x1f\x7f]", value):
        return f"'{value}'"  # as it is: regexes
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
