"""QEMU's own CPU confirms the table: what each form changes, depends on, reaches and where it goes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import pytest

from kgdbpatch.guests import Recipe
from kgdbpatch.image import Image
from kgdbpatch.isa.altivec import MODEL, ROWS

from .judge import runs as runs_module
from .judge.deviations import LACKING, reason_unseen
from .judge.layout import COLUMN
from .judge.machine import run
from .judge.places import Bools, Places
from .judge.runs import make_runs
from .judge.sandwich import make_sandwich
from .judge.verdict import Verdict, judge
from .judge.words import Probes, foreign_names, kernel_words, probes

_TOOLS = ("qemu-system-ppc", "gdb-multiarch", "powerpc-linux-gnu-as")
_MISSING = [tool for tool in _TOOLS if shutil.which(tool) is None]
pytestmark = [
    pytest.mark.long,
    pytest.mark.guest,
    pytest.mark.usefixtures("short_runtime"),
    pytest.mark.skipif(bool(_MISSING) and not os.environ.get("CI"), reason=f"not installed: {_MISSING}"),
]
_CHOICES = 32


def _image(profile: str) -> Image:
    path = Recipe.find(profile).image_path()
    if path is None:
        pytest.skip(f"the image of '{profile}' is not built; run: kgdbpatch image build {profile}")
    return Image.load(path)


def _judge(chosen: Probes, seed: int) -> Verdict:
    sandwich = make_sandwich(chosen)
    places = Places(chosen, sandwich)
    runs = make_runs(chosen, sandwich, places, seed)
    return judge(chosen, sandwich, places, runs, run("judge", runs.slots, runs.cases))


def _report(chosen: Probes, verdict: Verdict) -> str:
    """Return the table of forms and cases, and what could not be shown."""
    lines = ["form, cases, occurrences in the kernels, uses that mattered"]
    for number, variant in enumerate(chosen.variants):
        shown = [use for (of, use), (seen, _) in sorted(verdict.shown.items()) if of == number and seen]
        fate = "trapped" if number in verdict.trapped else " ".join(shown)
        lines.append(f"{variant!s:22} {verdict.cases[number]:6} {chosen.occurrences[number]:7}  {fate}")
    judged = len(chosen.variants) - len(verdict.trapped)
    occurring = sum(1 for count in chosen.occurrences if count)
    lines.append(
        f"{judged} forms judged ({occurring} occur in the kernels), {verdict.cases.sum()} cases, "
        f"{len(verdict.disagreements)} disagreements; not judged: {', '.join(map(str, chosen.unjudged))}"
    )
    return "\n".join(lines)


def _unexplained(chosen: Probes, verdict: Verdict) -> set[tuple[str, str, str]]:
    """Return (mnemonic, detail, use) of uses that never mattered though they should."""
    found = set()
    for (number, use), (seen, _) in verdict.shown.items():
        variant = chosen.variants[number]
        if not seen and not reason_unseen(variant.row, variant.detail, use):
            found.add((variant.row.mnemonic, variant.detail, use))
    return found


@pytest.mark.linux
@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(2, 12))])
def test_the_cpu_agrees_about_every_form(seed: int) -> None:
    images = [_image("darwin"), _image("linux")]
    used = kernel_words(images)
    chosen = probes(used, _CHOICES, seed)
    verdict = _judge(chosen, 1000 + seed)
    print(_report(chosen, verdict))
    print(f"of other models, not run: {', '.join(foreign_names(images))}")
    assert verdict.disagreements == []
    assert {variant.form for variant in used} <= {variant.form for variant in chosen.variants}
    assert [str(variant) for variant in chosen.unjudged if variant in used] == []
    trapped = {str(chosen.variants[number]) for number in verdict.trapped}
    assert {name.removesuffix(" rA=0") for name in trapped} == set(LACKING)
    rare = _unexplained(chosen, verdict)
    if rare:  # seldom seen: sought again among more cases
        again = probes(used, 8 * _CHOICES, seed, {mnemonic for mnemonic, _, _ in rare})
        more = _judge(again, 2000 + seed)
        assert more.disagreements == []
        assert rare & _unexplained(again, more) == set()
    assert verdict.cases.min() >= 4 * _CHOICES
    assert len(verdict.shown) > 1.8 * len(
        chosen.variants
    )  # about two uses a form; branches always taken have none


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(2, 12))])
def test_the_7400_agrees_about_every_form_of_altivec(seed: int) -> None:
    chosen = probes({}, _CHOICES, seed, model=MODEL)
    verdict = _judge(chosen, 1000 + seed)
    print(_report(chosen, verdict))
    assert verdict.disagreements == []
    assert verdict.trapped == set()
    assert chosen.unjudged == []
    assert {variant.row for variant in chosen.variants} == set(ROWS)
    rare = _unexplained(chosen, verdict)
    if rare:  # seldom seen: sought again among more cases
        again = probes({}, 16 * _CHOICES, seed, {mnemonic for mnemonic, _, _ in rare}, MODEL)
        more = _judge(again, 2000 + seed)
        assert more.disagreements == []
        assert rare & _unexplained(again, more) == set()
    assert verdict.cases.min() >= 4 * _CHOICES


def _without(real: Callable[[Probes], Bools], column: str) -> Callable[[Probes], Bools]:
    def wrong(chosen: Probes) -> Bools:
        table = real(chosen).copy()
        table[:, COLUMN[column]] = False
        return table

    return wrong


def _probes_of(mnemonic: str) -> Probes:
    model = MODEL if mnemonic in {row.mnemonic for row in ROWS} else ""
    return probes({}, _CHOICES, 3, {mnemonic}, model)


@pytest.mark.parametrize(
    ("mnemonic", "column"),
    [
        ("adde", "ca"),
        ("stwcx.", "reservation"),
        ("mfmsr", "msr"),
        ("fadd", "fpscr"),
        ("bc", "ctr"),
        ("cmpw", "so"),
        ("vaddfp", "vscr"),
        ("mfvrsave", "vrsave"),
    ],
)
def test_a_use_missing_from_the_table_is_found(
    monkeypatch: pytest.MonkeyPatch, mnemonic: str, column: str
) -> None:
    monkeypatch.setattr(runs_module, "used", _without(runs_module.used, column))
    complaints = _judge(_probes_of(mnemonic), 4).disagreements
    assert complaints
    assert all(text.startswith(mnemonic) for text in complaints)


@pytest.mark.parametrize(
    ("mnemonic", "column"),
    [
        ("sraw", "ca"),
        ("addo", "ov"),
        ("bcl", "lr"),
        ("frsp", "fpscr"),
        ("mtsrr0", "srr0"),
        ("vcmpequb.", "cr6"),
        ("vsum4ubs", "vscr"),
    ],
)
def test_a_def_missing_from_the_table_is_found(
    monkeypatch: pytest.MonkeyPatch, mnemonic: str, column: str
) -> None:
    monkeypatch.setattr("isa.judge.verdict.defined", _without(runs_module.defined, column))
    complaints = _judge(_probes_of(mnemonic), 4).disagreements
    assert any(text.endswith(f"changes more than its defs: {column}") for text in complaints)
