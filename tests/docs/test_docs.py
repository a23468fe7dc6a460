"""The documentation is true of the code: what it names exists, and what the code has it names."""

from __future__ import annotations

import ast
import dataclasses
import logging
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
import typer
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

from kgdbpatch.cli.app import application
from kgdbpatch.cli.patches import apply
from kgdbpatch.component.ports import Cpu
from kgdbpatch.errors import Misuse
from kgdbpatch.guests import Recipe
from kgdbpatch.kernel.doctor import Finding
from kgdbpatch.patch.site import FORCEABLE
from kgdbpatch.personality import Personality
from kgdbpatch.profiles.rows import CallerRow, GraphRow, LatencyRow, StackRow, TopRow
from kgdbpatch.results import (
    Check,
    CpuRegisters,
    FrameRow,
    LiveRegisters,
    PatchRow,
    SnapshotRow,
    ThreadRow,
    Trace,
    Verification,
)
from kgdbpatch.vm.machine import MachineDescription

ROOT = Path(__file__).parents[2]
DOCS, README = ROOT / "docs", ROOT / "README.md"
PAGES = [*sorted(DOCS.rglob("*.md")), README, ROOT / "CONTRIBUTING.md"]
PLACES = [ROOT, ROOT / "kgdbpatch", ROOT / "tests"]  # from which the pages name files
MADE = {"mach_kernel", "mach_kernel.elf", "build/own.elf", "build/site"}  # files that are there once built
FILE = re.compile(r"[\w.*-]+(/[\w.*-]+)*/?")
ENDINGS = (".py", ".toml", ".S", ".md", ".c", ".txt", ".bin")
USAGE: Any = typer.BadParameter.__mro__[1]  # click's error, wherever this version of typer keeps it


def text(name: str) -> str:
    return (DOCS / name).read_text()


def code(page: Path) -> Iterator[str]:
    """Yield what stands in backquotes, outside of blocks."""
    plain = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(r"(?<!`)`([^`\n]+)`(?!`)", plain)


def ids(page: Path) -> str:
    return str(page.relative_to(ROOT))


# ---- the site -----------------------------------------------------------------------------------------


def make(tmp_path: Path, docs: Path = DOCS, **changed: Any) -> None:
    """Build the site as scripts/test does, the API pages left out: strictly."""
    config = load_config(
        str(ROOT / "mkdocs.yml"),
        docs_dir=str(docs),
        site_dir=str(tmp_path / "site"),
        strict=True,
        plugins=[],
        **changed,
    )
    logging.getLogger("mkdocs").setLevel(logging.WARNING)  # our command line silences other people's logs
    build(config)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the site, built without a warning."""
    place = tmp_path_factory.mktemp("docs")
    make(place)
    return place / "site"


def test_every_page_is_built(site: Path) -> None:
    for page in (*DOCS.rglob("*.md"), DOCS / "reference/commands.md"):
        assert (site / page.relative_to(DOCS).with_suffix(".html")).is_file()


@pytest.mark.parametrize(
    "fault",
    ["[a page](howto/nothing.md)", "[a heading](refusals.md#no-such-rule)", "[a place](/architecture.md)"],
)
def test_a_broken_link_is_an_error(tmp_path: Path, fault: str) -> None:
    docs = shutil.copytree(DOCS, tmp_path / "docs")
    with (docs / "index.md").open("a") as page:
        page.write(f"\n{fault}\n")
    with pytest.raises(Abort):
        make(tmp_path, docs)


def test_a_page_that_is_missing_or_nowhere_listed_is_an_error(tmp_path: Path) -> None:
    docs = shutil.copytree(DOCS, tmp_path / "docs")
    (docs / "forgotten.md").write_text("# Forgotten\n")
    with pytest.raises(Abort):
        make(tmp_path, docs)
    (docs / "forgotten.md").unlink()
    with pytest.raises(Abort):
        make(tmp_path, docs, nav=[{"Start": "index.md"}, {"Nothing": "nothing.md"}])


# ---- commands -------------------------------------------------------------------------------------------


def every_command(group: Any, path: str) -> Iterator[str]:
    for name, command in group.commands.items():
        if not command.hidden:
            yield f"{path} {name}"
            if hasattr(command, "commands"):
                yield from every_command(command, f"{path} {name}")


def test_every_command_and_option_is_in_the_reference(site: Path) -> None:
    page = (site / "reference/commands.html").read_text()
    for path in every_command(typer.main.get_command(application()), "kgdbpatch"):
        section = re.search(rf'<h2 id="{path.replace(" ", "-")}">.*?(?=<h2|\Z)', page, re.DOTALL)
        assert section, path
        command: Any = typer.main.get_command(application())
        for name in path.split()[1:]:
            command = command.commands[name]
        for parameter in command.params:
            for option in parameter.opts if parameter.param_type_name == "option" else ():
                if option != "--help" and not parameter.hidden:
                    assert f"{option}" in section[0], f"{path} {option}"


def command_lines(page: Path) -> Iterator[str]:
    """Yield the lines that begin with the program's name: in blocks, and in backquotes."""
    for line in re.findall(r"^\s*(?:\$ )?(kgdbpatch .*)$", page.read_text(), re.MULTILINE):
        yield line.split("  #")[0]
    yield from (words for words in code(page) if words.startswith("kgdbpatch "))


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_command_line_is_one(page: Path) -> None:
    for line in command_lines(page):
        words = ["1" if word == "ID" else word for word in shlex.split(line)[1:]]
        if "COMMAND" in words or words[0] in ("--help", "--version", "--install-completion"):
            continue
        command: Any = typer.main.get_command(application())
        while hasattr(command, "commands"):
            assert words[0] in command.commands, line
            command = command.commands[words.pop(0)]
        if not words:
            continue  # the command's name alone
        try:
            command.make_context(line, words)
        except USAGE as error:
            pytest.fail(f"{line}: {error.format_message()}")


def test_what_objects_hold_is_told() -> None:
    rows = re.findall(r"^\| (`\w+[^|]*) \| ([^|]*) \|", text("reference/json.md"), re.MULTILINE)
    told = {name: set(re.findall(r"`(\w+)`", keys)) for names, keys in rows for name in names.split(", ")}
    for name, kind in {
        "check": Check,
        "list": PatchRow,
        "doctor": Finding,
        "verify": Verification,
        "live": LiveRegisters,
        "threads": ThreadRow,
        "bt": Trace,
        "regs": CpuRegisters,
        "snapshot": SnapshotRow,
        "callers": CallerRow,
        "latency": LatencyRow,
        "top": TopRow,
        "graph": GraphRow,
        "stacks": StackRow,
    }.items():
        assert told[f"`{name}`"] >= {field.name for field in dataclasses.fields(kind)}, name
    assert told["`bt`"] >= {field.name for field in dataclasses.fields(FrameRow)}
    groups = {path.split()[1] for path in every_command(typer.main.get_command(application()), "kgdbpatch")}
    assert {name.strip("`") for name in told} >= groups - {
        "console",
        "dash",
        "export",
        "gdb",
    }  # which write what is no text


# ---- rules -----------------------------------------------------------------------------------------------


@cache
def rules() -> set[str]:
    """Return the names of all rules that the code refuses by."""
    found = set()
    for path in (ROOT / "kgdbpatch").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("Refused", "refused")):
                rule = node.args[0]
                if isinstance(rule, ast.Constant):
                    found.add(str(rule.value))
                else:  # handed on from another refusal, or from who calls `refused`
                    assert re.fullmatch(r"(.*\.)?rule", ast.unparse(rule)), f"{path}:{node.lineno}"
    return found


def test_every_rule_has_its_entry() -> None:
    page = text("refusals.md")
    assert set(re.findall(r"^### (.+)$", page, re.MULTILINE)) == rules()
    rows = re.findall(r"^\| \[([^]]+)\]\(#([^)]+)\) \| [^|]+ \| ([^|]+) \|$", page, re.MULTILINE)
    assert {rule for rule, _, _ in rows} == rules()
    assert all(anchor == rule.replace(" ", "-") for rule, anchor, _ in rows)
    assert {rule for rule, _, forced in rows if forced != "no"} == set(FORCEABLE)
    lifted = re.search(r"--force lifts the rules(.*?)\n\n", apply.__doc__ or "", re.DOTALL)
    assert lifted is not None
    assert set(re.findall(r'"([^"]+)"', lifted[1])) == set(FORCEABLE)


# ---- what the how-to pages list ---------------------------------------------------------------------------


def listed(page: str) -> set[str]:
    return {word for words in code(DOCS / page) for word in re.findall(r"\w+", words)}


def test_every_key_of_a_recipe_is_told() -> None:
    keys = set[str]()
    for wrong in ("bogus = 1", "boot.bogus = 1"):
        with pytest.raises(Misuse, match="known are ") as told:
            Recipe.parse(wrong, Path("r.toml"))
        keys |= set(re.findall(r"\w+", str(told.value).split("known are ")[1]))
    assert len(keys) > 15
    assert listed("howto/guest.md") >= keys - {"boot"}


def test_every_key_of_a_machine_is_told() -> None:
    keys = {field.name for field in dataclasses.fields(MachineDescription)} - {"name"}
    assert listed("howto/machine.md") >= keys
    example = re.search(r"```toml\n(.*?)```", text("howto/machine.md"), re.DOTALL)
    assert example
    assert set(tomllib.loads(example[1])) == keys


def test_every_part_of_the_ports_is_told() -> None:
    assert listed("howto/cpu.md") >= {name for name in {*vars(Cpu), *Cpu.__annotations__} if name[0] != "_"}
    own = {name for name in {*vars(Personality), *Personality.__annotations__} if name[0] != "_"}
    assert listed("howto/personality.md") >= own - {"arena", "checked", "memory"}  # made of the others


# ---- names ------------------------------------------------------------------------------------------------


@cache
def names_of_files() -> set[str]:
    skipped = {".venv", ".git", "build", "__pycache__"}
    return {path.name for path in ROOT.rglob("*") if not skipped & {*path.relative_to(ROOT).parts}}


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_file_that_is_named_is_there(page: Path) -> None:
    for word in code(page):
        if not FILE.fullmatch(word) or word in MADE:
            continue
        if "/" in word.rstrip("/"):
            found = any(any(place.glob(word.rstrip("/"))) for place in PLACES)
        elif word.endswith("/"):
            found = any((place / word).is_dir() for place in PLACES)
        elif word.endswith(ENDINGS) and not word.startswith(("FILE", "board", "mac.", ".")):
            found = "*" in word or word in names_of_files()
        else:
            continue
        assert found, f"{page.name}: {word}"


@cache
def source() -> str:
    kinds = ("*.py", "*.S", "*.c", "*.h", "*.toml", "*.md")
    paths = [
        path for room in ("kgdbpatch", "qemu", "images", "examples") for path in (ROOT / room).rglob("*")
    ]
    return "\n".join(path.read_text() for path in paths if any(path.match(kind) for kind in kinds))


# the names of things that are not ours
OTHERS = {"Dyninst", "alloca", "ioctl", "mine"}


@pytest.mark.parametrize("page", [DOCS / "architecture.md", *sorted((DOCS / "howto").glob("*.md"))], ids=ids)
def test_every_name_is_one_of_the_code(page: Path) -> None:
    for word in code(page):
        if word.endswith(ENDINGS) or not re.fullmatch(r"[\w.]+(\(\w*\))?", word):
            continue
        for name in re.findall(r"[A-Za-z_]\w+", word):
            assert name in OTHERS or re.search(rf"\b{name}\b", source()), f"{page.name}: {word}"


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_object_of_the_reference_is_there(page: Path) -> None:
    found = re.findall(r"^::: (\S+)$|\]\[(kgdbpatch[\w.]+)\]", page.read_text(), re.MULTILINE)
    for name in map("".join, found):
        assert resolve_name(name) is not None


def test_the_rooms_and_their_order_are_those_of_the_contracts() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    block = re.search(r"^```text\n(kgdbpatch\..*?)```", text("architecture.md"), re.MULTILINE | re.DOTALL)
    assert block
    assert block[1].splitlines() == layers
    told = set(re.findall(r"`(\w+)/(?:\w+/)?`", text("architecture.md")))
    rooms = {path.parent.name for path in (ROOT / "kgdbpatch").glob("*/__init__.py")}
    assert told >= rooms


def test_every_term_is_defined_once() -> None:
    terms = re.findall(r"^(.+)\n:   ", text("vocabulary.md"), re.MULTILINE)
    names = [name.strip().lower() for term in terms for name in term.split(",")]
    assert len(names) > 50
    assert sorted(names) == sorted(set(names))
    for word in code(DOCS / "vocabulary.md"):
        if re.fullmatch(r"[A-Z]\w+", word):
            assert re.search(rf"\b{word}\b", source()), word
