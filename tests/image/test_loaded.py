"""A kernel and its modules are asked as one for places; all else is the kernel's alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from kgdbpatch.errors import MemoryFault, Misuse, UnknownSymbol
from kgdbpatch.image import Image, Section, Segment, Symbol
from kgdbpatch.image.contents import Contents
from kgdbpatch.image.loaded import ModuleImage, present
from kgdbpatch.image.modular import ModularImage

KERNEL, FIRST, SECOND = 0xC000_0000, 0xBE00_0000, 0xBE10_0000
SIZE = 0x40


def contents(prefix: str, start: int, names: dict[str, int]) -> Contents:
    """Return code of `SIZE` bytes with functions at some offsets, 16 bytes each."""
    name, code = f"{prefix}.text", bytes(range(SIZE))
    section = Section(name, start, SIZE, code, True, False)
    symbols = [Symbol(symbol, start + at, 16, name, "function") for symbol, at in names.items()]
    return Contents(start, (section,), (Segment(name, start, SIZE, code),), symbols)


def module(name: str, start: int, names: dict[str, int]) -> ModuleImage:
    return ModuleImage(name, Path("vmlinux"), "elf", "", contents(f"{name},", start, names), "")


@pytest.fixture
def kernel() -> Image:
    found = contents("", KERNEL, {"start": 0, "run": 16, "odd:name": 32})
    return Image(Path("vmlinux"), "elf", "aa", found)


@pytest.fixture
def image(kernel: Image) -> ModularImage:
    modules = [
        module("first_one", FIRST, {"probe": 0, "run": 16, "tick": 32}),
        module("second", SECOND, {"tick": 0, "only": 16}),
    ]
    return ModularImage(kernel, modules)


@pytest.mark.parametrize(
    ("site", "address"),
    [
        ("run", KERNEL + 16),
        ("run+4", KERNEL + 20),
        ("odd:name", KERNEL + 32),
        ("odd:name+0x4", KERNEL + 36),
        ("probe", FIRST),
        ("only+0x8", SECOND + 24),
        ("run [first_one]", FIRST + 16),
        ("run+0x4/0x10 [first_one]", FIRST + 20),
        ("[be000014] run+0x4/0x10 [first_one]", FIRST + 20),
        ("first_one:run", FIRST + 16),
        ("first-one:run+4", FIRST + 20),
        ("second:tick", SECOND),
        ("0xbe100010", SECOND + 16),
    ],
)
def test_places(image: ModularImage, site: str, address: int) -> None:
    assert image.resolve(site) == address


@pytest.mark.parametrize("address", [KERNEL, KERNEL + 20, FIRST + 4, FIRST + 16, SECOND + 28, 0xBF00_0000])
def test_what_is_told_is_understood(image: ModularImage, address: int) -> None:
    assert image.resolve(image.symbolize(address)) == address


@pytest.mark.parametrize(
    ("site", "error", "why"),
    [
        ("tick", Misuse, "ambiguous"),
        ("run [third]", Misuse, "'third', which is not loaded"),
        ("third:run", Misuse, "'third', which is not loaded"),
        ("second:probe", UnknownSymbol, "probe"),
        ("start [second]", UnknownSymbol, "start"),
        ("run+0x4/0x4 [first_one]", Misuse, "beyond"),
        ("[c0000014] run+0x4 [first_one]", Misuse, "two places"),
    ],
)
def test_what_is_no_place(image: ModularImage, site: str, error: type[Misuse], why: str) -> None:
    with pytest.raises(error, match=why):
        image.resolve(site)


def test_without_modules_the_names_of_one_are_told(kernel: Image) -> None:
    with pytest.raises(Misuse, match="module 'first_one', which is not part of vmlinux"):
        kernel.resolve("first_one:run")


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("run", [KERNEL + 16, FIRST + 16]),
        ("*", [KERNEL, KERNEL + 16, KERNEL + 32, FIRST, FIRST + 16, FIRST + 32, SECOND, SECOND + 16]),
        ("odd:*", [KERNEL + 32]),
        ("second:*", [SECOND, SECOND + 16]),
        ("t?ck [second]", [SECOND]),
        ("second:p*", []),
    ],
)
def test_globs(image: ModularImage, pattern: str, found: list[int]) -> None:
    assert [function.address for function in image.matching(pattern)] == found


def test_the_rest_is_the_kernels(kernel: Image, image: ModularImage) -> None:
    assert image.sha256 == kernel.sha256
    assert image.sections == kernel.sections
    assert image.functions == kernel.functions
    assert image.symbols == kernel.symbols
    assert image.part_at(KERNEL) is kernel
    assert image.part_at(FIRST).symbolize(FIRST) == image.symbolize(FIRST) == "probe [first_one]"
    assert image.read(SECOND + 4, 2) == bytes((4, 5))
    assert [f.address for f in image.all_functions()] == [f.address for f in image.matching("*")]
    section = image.section_at(FIRST)
    assert section is not None
    assert section.name == "first_one,.text"
    assert image.near("onlyy") == ("only",)


def test_pages_that_are_not_there_are_zero() -> None:
    def read(address: int, size: int) -> bytes:
        if address & -0x1000 == 0x2000:
            raise MemoryFault("none", address)
        return bytes([address >> 12]) * size

    assert present(read, 0x1FFC, 0x1008) == bytes([1]) * 4 + bytes(0x1000) + bytes([3]) * 4
