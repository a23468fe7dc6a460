"""The extensions that a running Darwin has loaded are found, named and analysed."""

from __future__ import annotations

from pathlib import Path

import pytest

from kgdbpatch.errors import BadImage
from kgdbpatch.guests import Recipe
from kgdbpatch.image.kmods import Extension, loaded_extensions, with_extensions
from kgdbpatch.kernel import Kernel, analyses, catalog, offline
from kgdbpatch.kernel.guessed import with_functions

from .parts import client

FILTER = "org.darwin.kext.PacketFilter"
VERSION, SIZE = 4, 152  # offsets of kmod_info's info_version and size


def packet_filter(kernel: Kernel) -> Extension:
    (found,) = (extension for extension in kernel.extensions() if extension.name == FILTER)
    return found


def extensions(kernel: Kernel, changes: dict[int, int]) -> list[Extension]:
    """Return what is read of the list when some of its words are others."""
    with client(kernel) as component, component.view(kernel.header) as read:

        def changed(address: int, size: int) -> bytes:
            data = bytearray(read(address, size))
            for at, word in changes.items():
                if address <= at < address + size:
                    data[at - address : at - address + 4] = word.to_bytes(4, "big")
            return bytes(data)

        return loaded_extensions(kernel.image, changed)


def first(kernel: Kernel) -> int:
    return int.from_bytes(kernel.read_virtual(kernel.resolve("kmod"), 4), "big")


def test_their_functions_are_the_kernels(kernel: Kernel) -> None:
    found = packet_filter(kernel)
    image = catalog.open_image(f"memory:{kernel.name}")
    function = image.function_at(image.lookup("packet_filter"))
    assert function is not None
    assert function.section == f"{FILTER},__text"
    assert found.address <= function.address < found.address + found.text_size
    (section,) = (s for s in image.sections if s.name == function.section)
    assert section.data == kernel.read_virtual(section.address, section.size)
    flow = analyses.flow(image, function)
    assert function.address in flow.live_in
    assert all(start in function for start in flow.live_in)
    live = offline.site_checker(image).live(image.resolve("packet_filter"))
    assert "r3" in live.live  # its argument
    assert "lr" in live.live
    assert {f.address for f in kernel.image.functions} < {f.address for f in image.functions}


def test_whoever_boots_a_darwin_may_call_it_as_he_likes(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(Recipe.find("darwin").text)
    with Kernel.boot(recipe) as mine:
        assert mine.profile == "mine"
        assert catalog.open_image(f"memory:{mine.name}").knows("packet_filter")


def test_without_symbols_functions_are_guessed(kernel: Kernel) -> None:
    known = extensions(kernel, {})[0]
    plain = extensions(kernel, {first(kernel) + VERSION: 1})
    assert plain[0].symbols == ()
    guessed = with_functions(with_extensions(kernel.image, plain))
    places = {f.address for f in guessed.functions if f.guessed}
    assert places & {address for address, _ in known.symbols if address < known.address + known.text_size}


@pytest.mark.parametrize(
    ("offset", "word", "why"),
    [
        (0, None, "no end"),
        (VERSION, 7, "no known way"),
        (0, 0x7000_0000, "damaged"),
        (SIZE, 0, "no known way"),
    ],
)
def test_a_damaged_list_is_refused(kernel: Kernel, offset: int, word: int | None, why: str) -> None:
    at = first(kernel)
    with pytest.raises(BadImage, match=why):
        extensions(kernel, {at + offset: at if word is None else word})
