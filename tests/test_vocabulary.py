"""The private words that the field's terms replaced do not come back as names in the code."""

from __future__ import annotations

import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

import kgdbpatch

PACKAGE, TESTS = Path(kgdbpatch.__file__).parent, Path(__file__).parent

# A folder of the package ("" is all of it), the old names, and what stands for each now. Only names in
# the code count, neither strings nor comments; those that begin with a dot only as what is defined, or
# asked of an object. To retire a word, add it here.
_PATCHING = {
    "draft": "trial",
    "made": "plan",
    "identity": "id",
    ".one": "plan_site",
    ".each": "plan_sites",
    ".many": "plan_sites; of the site checker: in_bulk",
    ".look": "peek",
    ".take": "claim",
    "Ways": "DirectCalls",
    ".ways": "direct_calls",
}
OLD: dict[str, dict[str, str]] = {
    "": {
        "Lane": "RegSet",
        "Lanes": "Halves",
        "lane": "regset; in isa: half",
        "lanes": "sets; in isa: halves",
        "Network": "BackwardDataflow",
        "Effects": "BlockTransfer",
        "Whole": "ProgramLiveness",
        "analyze_whole": "analyze_program",
        "Sites": "LivenessIndex",
        "Survey": "SiteChecker",
        "survey": "site_checker",
        "_survey": "_site_checker",
        "Rules": "OffLimits",
        "survey_rules": "off_limits",
        "ordinary": "may_have_hazard",
        "by_chance": "conditional_call",
        "is_inner_call": "is_internal_call",
        "hidden_edges": "exceptional_edges, rewritten_edges; both are implicit edges",
        "hidden_reads": "rewritten_reads",
        "Component": "ComponentClient",
        "Applied": "Patch",
    },
    "patch": _PATCHING,
    "component": {
        **_PATCHING,
        "stacks": "layers",
        "unstack": "remove_layers",
        "references": "quiescence",
        "come_back": "may_resume",
        "comes_back": "may_resume",
        ".status": "state",
    },
    "kernel": {**_PATCHING, ".list": "patches", ".type": "send"},
    "cli": _PATCHING,
    "analysis": {
        "Way": "Path",
        "way": "path",
        "ways": "paths",
        "lost": "escapes",
        "wild": "opaque_call",
        "strange": "forges_return",
        "odd": "nonconforming",
        "inner": "internal_call",
        "orphan": "unreached",
        "orphans": "unreached",
        "network": "dataflow",
        "hidden": "implicit",
        "whole": "liveness",
        "Callees": "Summaries: there is one liveness analysis",
        "Liveness": "ProgramLiveness",
    },
}
MODULES = {
    "analysis": "lane network ways sites whole ordinary calls callers graph flow guess live callees solve",
    "patch": "survey",
    "component": "component stacks references",
    "kernel": "rules answers applied",
}


def _names(path: Path) -> Iterator[tuple[str, int]]:
    before = ""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type == tokenize.NAME:
            yield token.string, token.start[0]
            if before in (".", "def"):
                yield "." + token.string.lstrip("_"), token.start[0]
        before = token.string


def _found(source: Path, folder: str) -> list[str]:
    old = OLD[folder]
    return [f"{source}:{line}: {name} is now {old[name]}" for name, line in _names(source) if name in old]


@pytest.mark.parametrize("folder", OLD)
def test_no_old_name_is_left(folder: str) -> None:
    sources = sorted((PACKAGE / folder).rglob("*.py")) + ([] if folder else sorted(TESTS.rglob("*.py")))
    assert len(sources) > 10
    assert [line for source in sources for line in _found(source, folder)] == []


def test_an_old_name_is_found(tmp_path: Path) -> None:
    source = tmp_path / "x.py"
    source.write_text('"""lane"""\nway = "way"  # way\nLane = way.lost\nalways = lanes_of = 1\n')
    told = [line.split(":", 1)[1] for folder in ("", "analysis") for line in _found(source, folder)]
    assert told[:2] == ["3: Lane is now RegSet", "2: way is now path"]
    assert told[2:] == ["3: way is now path", "3: lost is now escapes"]
    source.write_text("for one in many:\n    def _one(each):\n        made(one.look())\n")
    told = [line.split(":", 1)[1] for line in _found(source, "kernel")]
    assert told == ["2: .one is now plan_site", "3: made is now plan", "3: .look is now peek"]


def test_no_old_module_is_left() -> None:
    old = [PACKAGE / folder / f"{name}.py" for folder, names in MODULES.items() for name in names.split()]
    assert [path for path in old if path.exists()] == []
