"""A personality is found by its name or by an image, a bundled one as well as an installed package's."""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import dedent

import pytest
from analysis.code import link, needs_as

from kgdbpatch.errors import Misuse
from kgdbpatch.guests import Recipe
from kgdbpatch.personality import detect, personality
from kgdbpatch.personality.base import MemoryPlan

OWN = """
    from kgdbpatch.personality.bare import Bare

    class Own(Bare):
        name = "own"
        told = frozenset({"panic"})

        @classmethod
        def recognises(cls, image):
            return image.knows("own_banner")
    """
CODE = " .globl f\n .type f,@function\nf: blr\n .size f,.-f\n .globl {name}\n{name}:\n .long 1"


def installed(place: Path, module: str, code: str, what: str = "Own") -> None:
    """Install a distribution that registers ``module:what``."""
    (place / f"{module}.py").write_text(dedent(code))
    known = place / f"{module}-1.dist-info"
    known.mkdir()
    (known / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1\n")
    (known / "entry_points.txt").write_text(f"[kgdbpatch.personalities]\nown = {module}:{what}\n")


@needs_as
def test_an_installed_package_brings_a_personality(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Misuse, match=r"no personality 'own'; there are bare, darwin, linux$"):
        personality("own")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    installed(tmp_path, "own_system", OWN)
    own = personality("own", MemoryPlan(64, 32), panic="oh dear")
    assert (own.name, own.memory.announced, own.panic) == ("own", 32, "oh dear")
    with pytest.raises(Misuse, match="oops: what 'own' prints is known"):
        personality("own", oops="x")
    with pytest.raises(Misuse, match=r"no personality 'nobody'; there are bare, darwin, linux, own$"):
        personality("nobody")
    recipe = Recipe.parse('personality = "own"\nkernel = "k"\n', tmp_path / "x.toml")
    assert recipe.personality.name == "own"
    found = {
        name: detect(link(CODE.format(name=name), tmp_path)).name
        for name in ("own_banner", "linux_banner", "nothing")
    }
    assert found == {"own_banner": "own", "linux_banner": "linux", "nothing": "unknown"}


@pytest.mark.parametrize(
    ("module", "code", "what", "told"),
    [
        ("no_class", "Own = 1", "Own", "is no Personality"),
        ("no_module_of_that_kind", "import nothing_that_is_there", "Own", "is broken: No module named"),
        ("no_such_name", "Own = 1", "Other", "is broken: .*Other"),
    ],
)
def test_a_broken_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, code: str, what: str, told: str
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    installed(tmp_path, module, code, what)
    with pytest.raises(Misuse, match=f"the installed personality 'own' .*{told}"):
        personality("own")
    assert personality("linux").name == "linux", "the bundled ones serve as before"
