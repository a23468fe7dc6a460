"""A recipe's file is read whole, and what is wrong with it is told in a line."""

from __future__ import annotations

from pathlib import Path

import pytest

from kgdbpatch.errors import Misuse
from kgdbpatch.guests import Recipe

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_guest" / "own.toml"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('loader = "device"', 'loader = "tape"', "'boot.loader' is qemu, bootx or device"),
        ("memory_mib = 64", "memory_mib = 48", "power of two"),
        ("heartbeat = 1.0", 'heartbeat = "often"', "'heartbeat' must be a number"),
        ("ready = 'own: ready'", "ready = '('", "'ready' is no regex"),
        ('kernel = "build/own.elf"', "", "'kernel' is missing"),
        ('personality = "bare"', 'personality = "beos"', "no personality 'beos'"),
        ('personality = "bare"', 'personality = "linux"', "what 'linux' prints is known"),
        ('machine = "g3beige"', 'machine = "cray"', "no machine description 'cray'"),
        ("[boot]", "[boots]", "'boots' is not known"),
        ("[boot]", "[boot", "recipe "),
    ],
)
def test_a_bad_recipe_is_told(tmp_path: Path, old: str, new: str, reason: str) -> None:
    text = EXAMPLE.read_text()
    assert old in text
    recipe = tmp_path / "own.toml"
    recipe.write_text(text.replace(old, new))
    with pytest.raises(Misuse) as told:
        Recipe.load(recipe)
    assert reason in str(told.value)
    assert len(str(told.value).splitlines()) == 1
