"""What is asked of many addresses, or of all names, at once is what is asked of each."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from kgdbpatch.image import Function, Image, Section, Segment, Symbol
from kgdbpatch.image.contents import Contents
from kgdbpatch.image.loaded import ModuleImage
from kgdbpatch.image.modular import ModularImage
from kgdbpatch.image.symbols import FunctionTable, SymbolTable

from .random_parts import PLACES, SECTIONS

_NAMES = st.text("ab_.", min_size=1, max_size=4)
_FUNCTIONS = st.lists(
    st.builds(
        Function,
        _NAMES,
        st.integers(0, 24).map(lambda number: 4 * number),
        st.integers(1, 9).map(lambda number: 4 * number),
        st.lists(_NAMES, max_size=2).map(tuple),
        st.just(".text"),
    ),
    max_size=8,
).map(lambda functions: sorted(functions, key=lambda function: function.address))
_SYMBOLS = st.lists(
    st.builds(
        Symbol,
        _NAMES,
        st.integers(0, 120),
        st.just(0),
        st.sampled_from(["", ".text", ".data"]),
        st.just("label"),
    ),
    max_size=6,
)


def _image(
    sections: tuple[Section, ...],
    segments: tuple[Segment, ...] = (),
    functions: list[Function] | None = None,
    symbols: list[Symbol] | None = None,
) -> Image:
    image = Image(Path("vmlinux"), "elf", "", Contents(0, sections, segments, symbols or []))
    image.functions = FunctionTable.of(functions or [])
    return image


@given(SECTIONS, _FUNCTIONS, _SYMBOLS, PLACES)
def test_names_of_places(
    sections: tuple[Section, ...], functions: list[Function], symbols: list[Symbol], places: list[int]
) -> None:
    image = _image(sections, (), functions, symbols)
    assert image.symbolize_all(places) == [image.symbolize(place) for place in places]


def test_places_of_modules_are_called_after_them() -> None:
    name, code = "net,.text", bytes(16)
    section = Section(name, 0x100, 16, code, True, False)
    symbols = [Symbol("tick", 0x100, 16, name, "function")]
    contents = Contents(0, (section,), (Segment(name, 0x100, 16, code),), symbols)
    module = ModuleImage("net", Path("net.ko"), "elf", "", contents, "")
    kernel = _image(
        (Section(".text", 0, 64, bytes(64), True, False),), (), [Function("f", 0, 8, (), ".text")]
    )
    places, names = [0x104, 4, 0x20], ["tick+0x4 [net]", "f+0x4", "0x00000020"]
    assert ModularImage(kernel, [module]).symbolize_all(places) == names
    assert module.symbolize_all(places[:1]) == names[:1]


@given(_SYMBOLS, _NAMES)
def test_names_that_hold_a_part(symbols: list[Symbol], part: str) -> None:
    holding = [symbol for symbol in symbols if part in symbol.name]
    assert SymbolTable.of(symbols).holding(part) == holding
