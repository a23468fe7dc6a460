"""Recipes by the command line: shown, written, found again."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from guests.kernels import linux

from kgdbpatch.guests import Recipe

from .conftest import Cli


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KGDBPATCH_RECIPES", str(tmp_path / "recipes"))
    return tmp_path / "recipes"


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    return linux(tmp_path)


def test_what_is_bundled_is_listed(cli: Cli) -> None:
    rows = {row["name"]: row for row in cli("recipe", "show", "--json").json_lines}
    assert rows.keys() >= {"darwin", "linux"}
    assert (rows["linux"]["machine"], rows["linux"]["announced_mib"]) == ("g3beige", 256)
    assert "linux " in cli("recipe", "show").out
    assert cli("recipe", "show", "linux").out == Recipe.find("linux").text


def test_one_that_is_written_is_found(cli: Cli, kernel: Path, own: Path) -> None:
    words = [
        "--machine",
        "mac99",
        "--kernel",
        kernel,
        "--append",
        "mem=256M",
        "--smp",
        "2",
        "--ready",
        r"\d:",
    ]
    made = cli("recipe", "new", "mine", *words, "--json", "--", "-device", "virtio-rng-pci")
    assert made.code == 0, made.err
    assert made.json["path"] == str(own / "mine.toml")
    table = tomllib.loads(cli("recipe", "show", "mine").out)
    assert table["boot"]["args"] == ["-device", "virtio-rng-pci"]
    assert (table["kernel"], table["smp"], table["ready"]) == (str(kernel), 2, r"\d:")
    assert "mine" in {row["name"] for row in cli("recipe", "show", "--json").json_lines}
    comments = [line for line in cli("recipe", "show", "mine").out.splitlines() if line.startswith("#")]
    assert len(comments) > 10


def test_one_is_not_written_over_another(cli: Cli, kernel: Path, own: Path) -> None:
    words = ["--machine", "g3beige", "--kernel", kernel]
    assert cli("recipe", "new", "mine", *words).code == 0
    before = (own / "mine.toml").read_text()
    again = cli("recipe", "new", "mine", *words, "--smp", "2")
    assert (again.code, "--force" in again.err) == (2, True)
    assert (own / "mine.toml").read_text() == before
    assert cli("recipe", "new", "mine", *words, "--smp", "2", "--force").code == 0
    assert "smp = 2" in (own / "mine.toml").read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["new", "linux", "--machine", "g3beige"], "bundled"),
        (["new", "a/b", "--machine", "g3beige"], "cannot name a recipe"),
        (["new", "mine"], "--machine and --kernel"),
        (["new", "mine", "--from", "linx"], "did you mean linux"),
        (["new", "mine", "-o", "mine.txt", "--from", "linux"], "ends in .toml"),
        (["show", "nothing"], "no recipe 'nothing'"),
        (["new", "mine", "--from", "linux", "--", "-S"], "-S cannot be given"),
    ],
)
def test_mistakes_are_told_in_a_line(cli: Cli, words: list[str], told: str, own: Path) -> None:
    result = cli("recipe", *words)
    assert (result.code, result.err.count("\n"), result.out) == (2, 1, "")
    assert told in result.err
    assert not own.exists()


def test_one_is_made_of_another(cli: Cli, tmp_path: Path) -> None:
    made = cli("recipe", "new", "big", "--from", "linux", "--memory", "512", "-o", tmp_path / "b.toml")
    assert made.code == 0, made.err
    big = Recipe.load(tmp_path / "b.toml")
    assert (big.memory.memory, big.builder, big.heartbeat) == (512, Recipe.find("linux").builder, 1.0)


def test_what_lies_beside_a_recipe_is_still_found(cli: Cli, kernel: Path, own: Path, tmp_path: Path) -> None:
    (tmp_path / "beside.toml").write_text('kernel = "vmlinux"\n[boot]\ninitrd = "i"\ndrives = ["d"]\n')
    made = cli("recipe", "new", "moved", "--from", tmp_path / "beside.toml", "--cpu", "7400")
    assert made.code == 0, made.err
    moved = Recipe.load(own / "moved.toml")
    assert moved.build(print) == kernel
    assert moved.initrd() == tmp_path / "i"
    assert moved.drives() == [tmp_path / "d"]
    (tmp_path / "makes.toml").write_text('kernel = "k"\nmake = ["sh", "build.sh"]\n')
    refused = cli("recipe", "new", "other", "--from", tmp_path / "makes.toml", "--cpu", "7400")
    assert (refused.code, "'make' belongs to its own directory" in refused.err) == (2, True)


def test_one_that_is_broken_hides_no_other(cli: Cli, own: Path) -> None:
    own.mkdir()
    (own / "bad.toml").write_text("machine = 1\n")
    (own / "linux.toml").write_text("the bundled one is meant\n")
    rows = {row["name"]: row for row in cli("recipe", "show", "--json").json_lines}
    assert "'machine' must be a text" in rows["bad"]["wrong"]
    assert rows["linux"]["machine"] == "g3beige"
    listed = cli("recipe", "show")
    assert (listed.code, "bad: recipe" in listed.out) == (0, True)
