"""Objects in Mach-O's format are linked to the same bytes as the ELF objects that they were made of."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from image.machobject import build, read_elf_object

from kgdbpatch.errors import BadPatch, UnknownSymbol
from kgdbpatch.isa.abi import DARWIN, SYSV
from kgdbpatch.toolchain.compile import compile_c, link
from kgdbpatch.toolchain.gnu import available
from kgdbpatch.toolchain.support import FLAGS

pytestmark = pytest.mark.skipif(not available("gcc"), reason="powerpc-linux-gnu-gcc is not installed")

AT = 0x110C_0000
SOURCE = """
#define A __attribute__((aligned(16)))
extern int printf(const char *, ...), netisr;
A int counter = 5; A static int zeroed[9]; A const char *const name = "n";
int *where = &zeroed[3]; static int add(int x) { return x + zeroed[x & 7]; }
int (*const call)(int) = add; static int again(int x) { return x ? add(x) : netisr; }
int probe(int x)
{
    counter += x;
    zeroed[2] = call(x) + again(counter);
    printf("%s %d\\n", name, *where);
    return x > 3 ? add(counter) : printf("no");
}
"""


def resolve(name: str) -> int:
    known = {"printf": 0x0001_2344, "netisr": 0x0002_8764}
    if name not in known:
        raise UnknownSymbol(name, "mach_kernel")
    return known[name]


@pytest.fixture
def elf(tmp_path: Path) -> Callable[..., Path]:
    def make(text: str = SOURCE, *options: str) -> Path:
        (tmp_path / "probe.c").write_text(text)
        made = tmp_path / "probe.elf.o"
        command = [
            "powerpc-linux-gnu-gcc",
            *FLAGS,
            "-fno-merge-constants",
            *options,
            "-c",
            "-o",
            str(made),
            str(tmp_path / "probe.c"),
        ]
        subprocess.run(command, check=True)
        return made

    return make


@pytest.mark.parametrize("scattered", [False, True])
@pytest.mark.parametrize("options", [(), ("-O0",), ("-Os",), ("-fno-toplevel-reorder",)])
def test_it_is_linked_as_its_elf_object_is(
    elf: Callable[..., Path], tmp_path: Path, options: tuple[str, ...], *, scattered: bool
) -> None:
    """Every byte is the same (a section of the Mach-O object begins at a multiple of 16)."""
    made = elf(SOURCE, "-fno-merge-constants", "-fno-jump-tables", *options)
    macho = tmp_path / "probe.o"
    macho.write_bytes(build(read_elf_object(made.read_bytes()), scattered=scattered))
    one, other = (link(compile_c(file, entry="probe"), AT, resolve, abi=DARWIN) for file in (made, macho))
    ours, theirs = (
        {n: a for n, a in linked.symbols.items() if n in ("probe", "counter", "where")}
        for linked in (one, other)
    )
    assert ours == theirs
    assert one.code == other.code
    assert (one.constant_size, one.entry) == (other.constant_size, other.entry)


def test_darwins_objects_are_for_darwin_and_among_themselves(
    elf: Callable[..., Path], tmp_path: Path
) -> None:
    made, macho = elf(), tmp_path / "probe.o"
    macho.write_bytes(build(read_elf_object(made.read_bytes()), scattered=False))
    with pytest.raises(BadPatch, match=r"Darwin's stack frames, and this kernel is no Darwin"):
        link(compile_c(macho), AT, resolve, abi=SYSV)
    with pytest.raises(BadPatch, match=r"probe\.o has Darwin's stack frames, <c> has not"):
        compile_c([macho, "int g(void) { return 1; }"])


def test_damage_is_told(elf: Callable[..., Path], tmp_path: Path) -> None:
    whole, macho = build(read_elf_object(elf().read_bytes()), scattered=False), tmp_path / "probe.o"
    for cut in range(4, len(whole), 97):
        macho.write_bytes(whole[:cut])
        with pytest.raises(BadPatch, match=r"probe\.o"):
            link(compile_c(macho), AT, resolve, abi=DARWIN)
    macho.write_bytes(whole[:4] + (7).to_bytes(4, "big") + whole[8:])
    with pytest.raises(BadPatch, match="not for 32-bit big-endian PowerPC"):
        compile_c(macho)
    macho.write_bytes(whole[:12] + (2).to_bytes(4, "big") + whole[16:])
    with pytest.raises(BadPatch, match="not an object file but a linked one"):
        compile_c(macho)
