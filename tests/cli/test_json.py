"""JSON for programs: a symbol stands beside every address, errors are objects, a rule names each refusal."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from guest.parts import write
from patch.elf import needs_binutils, put_together

from kgdbpatch.cli import output
from kgdbpatch.cli.main import run
from kgdbpatch.image import Image
from kgdbpatch.kernel import Kernel

from .conftest import Cli
from .program import SOURCE

# numbers that are no addresses, however they look
OTHER = {
    "size",
    "pid",
    "id",
    "exit",
    "hits",
    "pause_us",
    "body_words",
    "patched",
    "sites",
    "refused",
    "functions",
}
ERROR = {"error", "rule", "address", "symbol", "nearest", "nearest_symbol", "exit"}


@pytest.fixture
def elf(tmp_path: Path) -> Path:
    return put_together(tmp_path, SOURCE).path


def bare(thing: Any, image: Image) -> Iterator[str]:
    """Yield the keys of addresses without a symbol beside them."""
    if isinstance(thing, list):
        for part in thing:
            yield from bare(part, image)
    if not isinstance(thing, dict):
        return
    for key, value in thing.items():
        yield from bare(value, image)
        numbers = value if isinstance(value, list) else [value]
        if key in OTHER or not all(type(number) is int for number in numbers):
            continue
        if any(image.section_at(number) is not None or number >= 0x1000 for number in numbers):
            beside = {"symbol", f"{key}_symbol", f"{key}_symbols"} & thing.keys()
            if not any(thing[name] for name in beside):
                yield key


def check(lines: list[Any], image: Image) -> None:
    assert lines
    assert [key for line in lines for key in bare(line, image)] == []


@needs_binutils
@pytest.mark.parametrize(
    "command",
    [
        ["functions"],
        ["functions", "*e"],
        ["symbols"],
        ["symbols", "*e"],
        ["symbols", "take+0x4"],
        ["disasm", "take"],
        ["disasm", "take+0x4", "1"],
        ["live", "take+0x8"],
        ["cfg", "take"],
        ["callgraph"],
        ["callgraph", "give"],
        ["check", "take"],
        ["check", "take+0x8"],
        ["check", "*"],
        ["check", "*", "--summary"],
    ],
    ids=" ".join,
)
def test_of_a_file(cli: Cli, elf: Path, command: list[str]) -> None:
    found = cli(command[0], elf, *command[1:], "--json")
    assert found.code in (0, 3)
    check(found.json_lines, Image.load(elf))
    assert bool(found.json_lines)


@needs_binutils
def test_errors_of_a_file(cli: Cli, elf: Path) -> None:
    refused = cli("live", elf, "take+2", "--json")
    assert (refused.code, set(refused.json)) == (3, ERROR)
    said = refused.json
    assert (said["rule"], said["address"], said["symbol"]) == ("alignment", 0xC0000002, "take+0x2")
    assert (said["nearest"], said["nearest_symbol"], said["exit"]) == (0xC0000000, "take", 3)
    assert said["error"] in " ".join(refused.err.split())
    for arguments, code in (
        (["live", elf, "tkae"], 2),
        (["functions", elf, "no_such*"], 2),
        (["functions", "./nothing"], 5),
        (["check", "nobody", "f"], 2),
        (["check", elf, "take", "--bogus"], 2),
        (["apply", "nobody", "f"], 2),
        (["log", "nobody"], 2),
    ):
        found = cli(*arguments, "--json")
        assert (found.code, found.json["exit"], set(found.json)) == (code, code, ERROR)
        assert found.json["error"]
        assert cli(*arguments).out == ""


def test_an_error_without_json_is_no_object(cli: Cli) -> None:
    assert cli("log", "nobody").out == ""


def test_no_colour_where_it_is_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for wanted, set_to in ((True, None), (True, ""), (False, "1")):
        screen = Terminal()
        monkeypatch.setattr("sys.stdout", screen)
        monkeypatch.delenv("NO_COLOR", raising=False)
        if set_to is not None:
            monkeypatch.setenv("NO_COLOR", set_to)
        assert output.colours() == wanted
        output.table(("A",), [("b",)])
        assert ("\x1b" in screen.getvalue()) <= wanted


@pytest.mark.guest
def test_of_a_guest(guest_cli: Cli, kernel: Kernel) -> None:
    image, name = kernel.image, kernel.name

    def checked(code: int, *arguments: object) -> list[Any]:
        found = guest_cli(*arguments, "--json")
        assert found.code == code, found.err
        if found.out:
            check(found.json_lines, image)
        return found.json_lines

    checked(0, "functions", name, "run_*")
    checked(0, "live", name, "run_netisr")
    checked(0, "check", name, "run_netisr")
    checked(0, "apply", name, "run_netisr", "--count", "--dry-run")
    (applied,) = checked(0, "apply", name, "run_netisr", "--call", "log_flush")
    assert applied["symbol"] == image.symbolize(kernel.resolve("run_netisr"))
    assert applied["springboard_symbol"] == f"springboard of patch {applied['id']}"
    assert applied["forced"] == []
    (listed,) = checked(0, "list", name)
    assert listed["forced"] == []
    checked(0, "verify", name)
    (refused,) = checked(3, "apply", name, "hw_atomic_add+0x8", "--count")
    assert (refused["rule"], refused["exit"]) == ("reservation", 3)
    assert refused["symbol"].endswith("hw_atomic_add+0x8")
    assert refused["nearest_symbol"]
    write(kernel, "panic", 0x6000_0000)
    (verified,) = checked(3, "verify", name)
    assert verified["mismatched_symbols"] == [image.symbolize(kernel.resolve("panic"))]
    checked(0, "remove", name, "--all")


@pytest.mark.guest
def test_what_a_glob_leaves_out_is_told_by_rule(guest_cli: Cli, kernel: Kernel) -> None:
    named = len(kernel.functions(".L_handler*"))
    assert named > 2
    refused = guest_cli("apply", kernel.name, ".L_handler*", "--count")
    assert refused.code == 3
    lines = [line for line in refused.err.splitlines() if "left out" in line]
    counts = [int(line.split(" by rule ")[0].split()[-1]) for line in lines]
    assert sum(counts) == named
    assert len(lines) < named


@pytest.mark.guest
@pytest.mark.parametrize("tag", ["", "1", "42", "-x", "a b", "a,b", "a\nb", "x" * 100, "é"])
def test_snapshots_with_unusable_names(kernel: Kernel, tag: str) -> None:
    with pytest.raises(ValueError, match="snapshot"):
        kernel.snapshot(tag)


@pytest.mark.guest
def test_public_objects_say_in_a_line_what_they_are(kernel: Kernel) -> None:
    batch = kernel.patch_all(["run_netisr", "hw_atomic_add+0x8"], count=True)
    things = [kernel, batch, *batch.patches, *batch.refused, *kernel.patches, kernel.verify(), kernel.image]
    things += [
        kernel.check("run_netisr"),
        kernel.live("run_netisr"),
        kernel.site_checker,
        kernel.checker(),
        kernel.log,
    ]
    things += [kernel["run_netisr"], kernel.plan("log_flush", count=True)]
    for thing in things:
        said = repr(thing)
        assert "\n" not in said
        assert " object at 0x" not in said
        assert len(said) < 1000, said
    kernel.remove_all()


@pytest.mark.guest
def test_log_follows_where_it_is_told_when_to_end(kernel: Kernel, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["log", kernel.name, "-n", "0", "--grep", "selfcheck", "--until", "1", "--timeout", "60"]) == 0
    assert len(capfd.readouterr().out.splitlines()) == 1
    assert run(["log", kernel.name, "-n", "0", "--grep", "never seen", "--until", "1", "--timeout", "0"]) == 4
