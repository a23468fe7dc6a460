"""Commands about recipes: show, new."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from kgdbpatch.cli import completion
from kgdbpatch.cli.boot_options import BootFlags, with_boot_flags
from kgdbpatch.cli.dashes import WithDashes
from kgdbpatch.cli.options import AsJson
from kgdbpatch.cli.output import json_line, printable, table, tell

__all__ = ["recipe"]

recipe = typer.Typer(no_args_is_help=True, help="Show how guests are booted, and keep how yours is.")


@recipe.command("show")
def show(
    name: Annotated[
        str | None,
        Argument(
            metavar="NAME",
            show_default=False,
            help="A recipe, its FILE.toml, or a running guest.",
            autocompletion=completion.recipes_and_guests,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print a recipe, or that of a running guest; without NAME list the recipes.

    \b
    Examples:
      kgdbpatch recipe show
      kgdbpatch recipe show linux
      kgdbpatch recipe show mine > mine.toml
    """
    from kgdbpatch.kernel import recipes

    if name is None:
        rows = recipes.every()
        if as_json:
            for row in rows:
                json_line(row)
        else:
            heads = ("name", "machine", "personality", "path")
            told = [tuple(row.get(key, "-") for key in heads) for row in rows]
            table(("NAME", "MACHINE", "PERSONALITY", "FILE"), told)
            for row in rows:
                if "wrong" in row:
                    tell(f"{row['name']}: {row['wrong']}")
        return
    found = recipes.find(name)
    if as_json:
        json_line(recipes.as_row(found))
    else:
        print(printable(found.text, "\n\t"), end="")


@recipe.command("new", cls=WithDashes)
@with_boot_flags
def new(
    ctx: typer.Context,
    name: Annotated[str, Argument(metavar="NAME", help="What 'kgdbpatch boot' shall know it by.")],
    base: Annotated[
        str | None,
        Option(
            "--from",
            metavar="RECIPE",
            help="Begin with this recipe, not from scratch.",
            autocompletion=completion.profiles,
        ),
    ] = None,
    *,
    flags: BootFlags,
    output: Annotated[
        Path | None,
        Option("--output", "-o", metavar="FILE.toml", help="Write it there, not to your recipes."),
    ] = None,
    force: Annotated[bool, Option("--force", help="Write over one that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the recipe that boot's options mean, so that 'kgdbpatch boot NAME' needs none of them.

    It goes to ~/.config/kgdbpatch/recipes/NAME.toml, or where KGDBPATCH_RECIPES says; comments in it tell
    what else could be said. Nothing is booted.

    \b
    Examples:
      kgdbpatch recipe new mine --machine g3beige --kernel vmlinux --initrd initrd.gz \\
        --append 'console=ttyPZ0 mem=256M' --ready 'login:'
      kgdbpatch boot mine
      kgdbpatch recipe new big --from linux --memory 512
    """
    from kgdbpatch.kernel import recipes

    kept = recipes.new(name, base, flags.options(ctx), output, force=force)
    if as_json:
        json_line(recipes.as_row(kept))
    else:
        tell(f"{kept.path}: 'kgdbpatch boot {name if output is None else output}' boots it")
        if kept.nothing_hidden is not None:
            tell(f"no memory for patches is hidden in it, a Linux is asked for some: {kept.nothing_hidden}")
