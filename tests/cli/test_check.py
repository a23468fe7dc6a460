"""The command check on files: no guest runs, and the answers are those of apply's own code."""

from __future__ import annotations

from pathlib import Path

import pytest
from patch.elf import needs_binutils, put_together

from kgdbpatch.errors import Refused
from kgdbpatch.kernel import catalog
from kgdbpatch.kernel.offline import planner
from kgdbpatch.patch.request import PatchRequest

from .conftest import Cli
from .program import SOURCE

KEYS = {"site", "symbol", "ok", "rule", "reason", "nearest", "nearest_symbol", "springboard", "entry"}
KEYS |= {"saved", "body_words"}
LINUX = (
    SOURCE
    + """
    .section __jump_table, "a"
    .long here - ., here - ., 0
    .data
    .globl linux_banner
linux_banner: .asciz "Linux"
"""
)


@pytest.fixture
def elf(tmp_path: Path) -> Path:
    return put_together(tmp_path, SOURCE).path


def test_a_mach_o(cli: Cli, kernel_file: Path) -> None:
    found = cli("check", kernel_file, "f", "--json")
    assert found.code == 0
    assert set(found.json) == KEYS
    assert (found.json["site"], found.json["symbol"], found.json["ok"]) == (0x3000, "_f", True)
    assert "_f (0x00003000): yes" in cli("check", kernel_file, "f").out


@needs_binutils
def test_a_refusal_names_rule_and_place(cli: Cli, elf: Path) -> None:
    found = cli("check", elf, "take+0x8", "--json")
    assert found.code == 3
    said = found.json
    assert set(said) == KEYS
    assert (said["symbol"], said["ok"], said["rule"], said["entry"]) == (
        "take+0x8",
        False,
        "reservation",
        None,
    )
    assert (said["nearest"], said["nearest_symbol"]) == (0xC0000004, "take+0x4")
    assert "reason: take+0x8 lies between lwarx and stwcx." in cli("check", elf, "take+0x8").out


@needs_binutils
def test_a_file_is_judged_by_what_it_is(cli: Cli, tmp_path: Path, elf: Path) -> None:
    """The same code is another kernel's where a table of Linux's names it."""
    assert cli("check", elf, "here").code == 0
    kernel = put_together(tmp_path, LINUX).path
    found = cli("check", kernel, "here", "--json")
    assert (found.code, found.json["rule"]) == (3, "rewritten")


@needs_binutils
def test_a_glob_is_the_first_instruction_of_each(cli: Cli, elf: Path) -> None:
    found = cli("check", elf, "*e", "--json")
    assert found.code == 0
    assert [line["symbol"] for line in found.json_lines] == ["take", "give"]
    lines = cli("check", elf, "*").out.splitlines()
    assert [line.split(":")[1] for line in lines] == [" yes"] * 2


@needs_binutils
@pytest.mark.parametrize("pattern", ["tak*x", "no_such_thing*"])
def test_a_glob_that_nothing_matches(cli: Cli, elf: Path, pattern: str) -> None:
    for options in ([], ["--summary"]):
        result = cli("check", elf, pattern, *options)
        assert (result.code, result.out) == (2, "")
        assert f"no function of vmlinux is like '{pattern}'" in result.err
        assert ("did you mean take" in result.err) == pattern.startswith("tak")


@needs_binutils
@pytest.mark.parametrize("options", [[], ["--count"]])
def test_a_summary_counts_what_apply_would_refuse(cli: Cli, elf: Path, options: list[str]) -> None:
    image = catalog.open_image(str(elf))
    plans = planner(image)
    payload = plans.payload(PatchRequest(count=True)) if options else plans.any_call()
    rules: dict[str, int] = {}
    places = [at for f in image.functions for at in range(f.address, f.end, 4)]
    for address in places:
        try:
            plans.plan_site(address, payload)
        except Refused as refused:
            rules[refused.rule] = rules.get(refused.rule, 0) + 1
    assert rules["reservation"] > 1
    found = cli("check", elf, "*", "--summary", *options, "--json").json
    assert {rule: share["refused"] for rule, share in found["rules"].items()} == rules
    assert (found["functions"], found["sites"], found["refused"]) == (2, len(places), sum(rules.values()))
    assert found["share"] == pytest.approx(sum(rules.values()) / len(places), abs=1e-6)
    example = found["rules"]["reservation"]
    assert example["symbol"].startswith("take+")
    assert image.symbolize(example["address"]) == example["symbol"]
    assert found["sections"][".text"]["sites"] == len(places)
    text = cli("check", elf, "take", "--summary", *options).out
    assert "reservation" in text
    assert text.splitlines()[0].split() == ["SECTION", "RULE", "SITES", "REFUSED", "SHARE", "EXAMPLE"]
