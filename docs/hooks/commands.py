"""Write the command reference from the program itself, each time the site is built."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from kgdbpatch.cli.app import application

__all__ = ["commands", "on_files", "page"]

_PAGE = "reference/commands.md"
_HEAD = """# Commands

What `kgdbpatch --help` and `kgdbpatch COMMAND --help` say, made from the program when this site was built.
With `--json` a command prints one object, or one a line; addresses are numbers, with a symbol beside each.

"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page to the site (called by MkDocs)."""
    files.append(File.generated(config, _PAGE, content=page()))
    return files


def commands() -> Iterator[tuple[str, Any]]:
    """Yield the program and all its commands that are not hidden, as (what is typed, command)."""
    program = typer.main.get_command(application())
    yield "kgdbpatch", program
    yield from _below("kgdbpatch", program)


def _below(path: str, group: Any) -> Iterator[tuple[str, Any]]:
    for name, command in getattr(group, "commands", {}).items():
        if not command.hidden:
            yield f"{path} {name}", command
            yield from _below(f"{path} {name}", command)


def page() -> str:
    """Return the reference in Markdown."""
    return _HEAD + "\n".join(_command(path, command) for path, command in commands())


def _command(path: str, command: Any) -> str:
    context = command.context_class(command, info_name=path)
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    parts = [
        f"## {path} {{#{path.replace(' ', '-')}}}",
        f"```text\n{usage}\n```",
        *_prose(command.help or ""),
    ]
    for kind, title in (("argument", "Arguments"), ("option", "Options")):
        records = [
            parameter.get_help_record(context)
            for parameter in command.get_params(context)
            if parameter.param_type_name == kind and "--help" not in parameter.opts
        ]
        entries = [f"`{names}`\n:   {_escaped(text)}\n" for names, text in filter(None, records)]
        parts += [f"**{title}**", *entries] if entries else []
    return "\n\n".join(parts) + "\n"


def _prose(text: str) -> Iterator[str]:
    """Yield the paragraphs of a help text; what click is told to leave as it is becomes a block of code."""
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        kept, is_kept = re.subn(r"^\s*\x08\n", "", paragraph)
        if not is_kept:
            yield _escaped(" ".join(paragraph.split()))
            continue
        first, *lines = kept.splitlines()
        if first.endswith(":"):
            yield _escaped(first)
        else:
            lines.insert(0, first)
        indent = min(len(line) - len(line.lstrip()) for line in lines)
        yield "\n".join(["```console", *(line[indent:] for line in lines), "```"])


def _escaped(text: str) -> str:
    """Return a text with Markdown's own characters as they are, but ``code`` as code."""
    pieces = re.split(r"``([^`]+)``", text)
    return "".join(
        f"`{piece}`" if number % 2 else re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", piece)
        for number, piece in enumerate(pieces)
    )
