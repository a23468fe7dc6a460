"""Kernels in what they are shipped in: compressed, in U-Boot's images, in Linux's boot wrappers, raw."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from kgdbpatch.errors import BadImage
from kgdbpatch.guests import Recipe
from kgdbpatch.image import Image

_GCC, _OBJCOPY = "powerpc-linux-gnu-gcc", "powerpc-linux-gnu-objcopy"
_NONE, _GZIP, _BZIP2, _LZMA, _LZO = range(5)
_KERNEL, _RAMDISK, _MULTI, _NOLOAD = 2, 3, 4, 14
_LOAD, _ENTRY = 0x0040_0000, 0x0040_0008


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGDBPATCH_CACHE", str(tmp_path / "cache"))


def _lzma_alone(data: bytes) -> bytes:
    return lzma.compress(data, lzma.FORMAT_ALONE)


def uimage(
    data: bytes, how: int = _NONE, kind: int = _KERNEL, architecture: int = 7, name: bytes = b"Linux"
) -> bytes:
    """Return a legacy image as U-Boot's ``include/image.h`` lays it out."""
    after = struct.pack(">4I4B32s", _LOAD, _ENTRY, zlib.crc32(data), 0, 0, 0, 0, 0, name)
    after = after[:12] + bytes((5, architecture, kind, how)) + name.ljust(32, b"\0")
    head = struct.pack(">4I", 0x27051956, 0, 1_700_000_000, len(data)) + after
    return head[:4] + struct.pack(">I", zlib.crc32(head)) + head[8:] + data


def multi(*parts: bytes) -> bytes:
    """Return the data of a multi-file image."""
    sizes = struct.pack(f">{len(parts) + 1}I", *map(len, parts), 0)
    return sizes + b"".join(part + bytes(-len(part) % 4) for part in parts)


_WRAPS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "gzip, with a name and padding": lambda elf: _named_gzip(elf) + bytes(512),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "uImage": uimage,
    "uImage, gzip": lambda elf: uimage(gzip.compress(elf), _GZIP),
    "uImage, bzip2": lambda elf: uimage(bz2.compress(elf), _BZIP2),
    "uImage, lzma": lambda elf: uimage(_lzma_alone(elf), _LZMA),
    "uImage, padded to a flash block": lambda elf: uimage(gzip.compress(elf), _GZIP) + b"\xff" * 4096,
    "uImage, multi-file": lambda elf: uimage(multi(gzip.compress(elf), b"initrd!", bytes(9)), _GZIP, _MULTI),
    "uImage that runs anywhere": lambda elf: uimage(elf, kind=_NOLOAD),
    "gzip of a uImage": lambda elf: gzip.compress(uimage(gzip.compress(elf), _GZIP)),
}


def _named_gzip(data: bytes) -> bytes:
    return b"\x1f\x8b\x08\x08\0\0\0\0\2\3vmlinux\0" + gzip.compress(data)[10:]


def _said(image: Image) -> tuple[object, ...]:
    return (image.format, image.entry, image.sections, image.segments, image.symbols)


def _load(place: Path, data: bytes) -> Image:
    (place / "kernel").write_bytes(data)
    cold, warm = Image.load(place / "kernel"), Image.load(place / "kernel")
    assert _said(cold) == _said(warm)
    return warm


@pytest.mark.parametrize("wrap", _WRAPS)
def test_unwrapped(wrap: str, elf_path: Path, elf_image: Image, tmp_path: Path) -> None:
    image = _load(tmp_path, _WRAPS[wrap](elf_path.read_bytes()))
    assert _said(image) == _said(elf_image)


def test_a_mach_o_file_in_gzip(macho_path: Path, macho_image: Image, tmp_path: Path) -> None:
    assert _said(_load(tmp_path, gzip.compress(macho_path.read_bytes()))) == _said(macho_image)


# ---- boot wrappers ---------------------------------------------------------------------

_WRAPPER = r"""
    .text
    .globl _start
_start: bl start
    b .
start: li 3,1
    blr
    .section ".kernel:vmlinux.strip","a"
    .globl _vmlinux_start
_vmlinux_start:
    .incbin "payload"
    .section ".kernel:initrd","a"
    .incbin "initrd"
    .data
    .asciz "zImage starting: loaded at 0x%p"
"""


def _wrapper(place: Path, payload: bytes) -> Path:
    """Return a boot wrapper as ``arch/powerpc/boot/wrapper`` makes one, with a RAM disk."""
    (place / "payload").write_bytes(payload)
    (place / "initrd").write_bytes(gzip.compress(bytes(range(256)) * 40 + b"070701", 0))
    (place / "wrapper.S").write_text(_WRAPPER)
    command = [_GCC, "-nostdlib", "-static", "-Wl,-Ttext=0x400000", "-Wl,--build-id=none", "-o", "zImage"]
    subprocess.run([*command, "wrapper.S"], cwd=place, check=True)
    return place / "zImage"


def _without_sections(zimage: Path) -> bytes:
    data = bytearray(zimage.read_bytes())
    struct.pack_into(">I", data, 32, 0)
    struct.pack_into(">3H", data, 46, 0, 0, 0)
    return bytes(data)


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bytes])
def test_zimage(pack: Callable[[bytes], bytes], elf_path: Path, elf_image: Image, tmp_path: Path) -> None:
    zimage = _wrapper(tmp_path, pack(elf_path.read_bytes()))
    assert _said(_load(tmp_path, zimage.read_bytes())) == _said(elf_image)


def test_zimage_whose_section_has_no_name(elf_path: Path, elf_image: Image, tmp_path: Path) -> None:
    zimage = _wrapper(tmp_path, gzip.compress(elf_path.read_bytes()))
    subprocess.run(
        [_OBJCOPY, "--remove-section=.kernel:initrd", "--rename-section=.kernel:vmlinux.strip=.x", zimage],
        check=True,
    )
    assert _said(_load(tmp_path, zimage.read_bytes())) == _said(elf_image)
    assert _said(_load(tmp_path, _without_sections(zimage))) == _said(elf_image)


def test_cuimage(elf_path: Path, elf_image: Image, tmp_path: Path) -> None:
    zimage = _wrapper(tmp_path, gzip.compress(elf_path.read_bytes()))
    subprocess.run([_OBJCOPY, "-O", "binary", zimage, tmp_path / "raw"], check=True)
    wrapped = gzip.compress((tmp_path / "raw").read_bytes())
    assert _said(_load(tmp_path, uimage(wrapped, _GZIP))) == _said(elf_image)


def test_a_kernel_that_holds_a_small_program_is_itself(elf_path: Path, tmp_path: Path) -> None:
    """As Linux holds its vDSO, or an initramfs with compressed programs."""
    small = bytearray(elf_path.read_bytes()[:0x60])
    (tmp_path / "program").write_bytes(gzip.compress(elf_path.read_bytes()) + bytes(small))
    text = '.text\n.globl _start\n_start: .rept 20000\n nop\n .endr\n blr\n .data\n .incbin "program"\n'
    (tmp_path / "a.S").write_text(text)
    subprocess.run([_GCC, "-nostdlib", "-static", "-o", "outer", "a.S"], cwd=tmp_path, check=True)
    image = _load(tmp_path, (tmp_path / "outer").read_bytes())
    assert image.resolve("_start") == image.entry
    assert not image.near("unsized")


# ---- raw binaries ----------------------------------------------------------------------


def test_a_raw_binary_lies_where_u_boot_puts_it(tmp_path: Path) -> None:
    code = struct.pack(">4I", 0x60000000, 0x48000005, 0x38600001, 0x4E800020)
    image = _load(tmp_path, uimage(gzip.compress(code), _GZIP))
    assert (image.format, image.entry) == ("raw", _ENTRY)
    assert image.read(_LOAD, 16) == code
    assert [section.address for section in image.code_sections()] == [_LOAD]
    assert [segment.physical for segment in image.segments] == [_LOAD]


@pytest.mark.linux
def test_a_raw_linux_by_its_own_symbols(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KGDBPATCH_CACHE")
    path = Recipe.find("linux").image_path()
    if path is None:
        pytest.skip("the image of 'linux' is not built; run: kgdbpatch image build linux")
    subprocess.run([_OBJCOPY, "-O", "binary", path, tmp_path / "Image"], check=True)
    image, known = Image.load(tmp_path / "Image"), Image.load(path)
    for name in ("udp_sendmsg", "start_here", "jiffies_64"):
        assert image.lookup(name) == known.lookup(name)
    function = known.function_at(known.lookup("udp_sendmsg"))
    assert function is not None
    assert image.read(function.address, function.size) == known.read(function.address, function.size)


@pytest.mark.linux
def test_where_a_packed_linux_lies_physically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KGDBPATCH_CACHE")
    recipe = Recipe.find("linux")
    path, linux = recipe.image_path(), recipe.personality
    if path is None:
        pytest.skip("the image of 'linux' is not built; run: kgdbpatch image build linux")
    (tmp_path / "vmlinux.gz").write_bytes(gzip.compress(path.read_bytes(), 1))
    packed, known = Image.load(tmp_path / "vmlinux.gz"), Image.load(path)
    program = subprocess.run(
        ["powerpc-linux-gnu-readelf", "-lW", path], capture_output=True, text=True, check=True
    )
    virtual, physical = next(line.split()[2:4] for line in program.stdout.splitlines() if "LOAD" in line)
    address = known.lookup("udp_sendmsg")
    expected = address - int(virtual, 16) + int(physical, 16)
    assert linux.to_physical(known, address) == linux.to_physical(packed, address) == expected


def test_the_line_for_raw_binaries_works(tmp_path: Path) -> None:
    code = struct.pack(">4I", 0x60000000, 0x48000005, 0x38600001, 0x4E800020)
    (tmp_path / "kernel").write_bytes(code)
    with pytest.raises(BadImage, match="raw binary") as caught:
        Image.load(tmp_path / "kernel")
    commands = str(caught.value).split("'")[1].replace("FILE", "kernel").replace("ADDRESS", "0x100000")
    subprocess.run(commands, shell=True, check=True, cwd=tmp_path)
    image = Image.load(tmp_path / "k.elf")
    assert image.entry == 0x100000
    assert image.read(0x100000, 16) == code
    assert image.code_sections()


# ---- refusals --------------------------------------------------------------------------


def _flip(data: bytes, at: int) -> bytes:
    at %= len(data)
    return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda elf: _flip(uimage(elf), 13), "header of the U-Boot image is damaged: its CRC is"),
        (lambda elf: _flip(uimage(elf), 700), "data are damaged: their CRC is"),
        (lambda elf: uimage(elf)[:-1], "truncated: the U-Boot image holds"),
        (lambda elf: uimage(elf)[:63], "truncated in the header of the U-Boot image"),
        (lambda elf: uimage(elf, architecture=2), "for ARM, not PowerPC"),
        (lambda elf: uimage(elf, kind=_RAMDISK), "holds a RAM disk, no kernel"),
        (lambda elf: uimage(elf, how=9), "compressed in an unknown way"),
        (lambda elf: uimage(elf, how=_LZO), "'lzop -d'"),
        (lambda elf: uimage(elf, how=_GZIP), "damaged gzip data"),
        (lambda elf: uimage(struct.pack(">2I", 50, 0) + b"x", kind=_MULTI), "do not fit"),
        (lambda elf: uimage(b"", kind=_MULTI), "do not fit"),
        (lambda elf: gzip.compress(elf)[:-9], "truncated gzip data"),
        (lambda elf: _flip(gzip.compress(elf), -6), "damaged gzip data"),
        (lambda elf: lzma.compress(elf)[:-9], "truncated xz data"),
        (lambda elf: gzip.compress(b"text"), "neither Mach-O nor ELF"),
        (lambda elf: gzip.compress(b""), "the file is empty"),
        (lambda elf: b"\x28\xb5\x2f\xfd" + elf, "'zstd -d'"),
        (lambda elf: b"\xd0\x0d\xfe\xed" + bytes(60), "dumpimage"),
        (lambda elf: b"Linux version 6.1 but nothing else", "nothing tells the address"),
    ],
)
def test_refused_in_one_line(
    damage: Callable[[bytes], bytes], words: str, elf_path: Path, tmp_path: Path
) -> None:
    (tmp_path / "kernel").write_bytes(damage(elf_path.read_bytes()))
    with pytest.raises(BadImage, match=words) as caught:
        Image.load(tmp_path / "kernel")
    assert "\n" not in str(caught.value)


def test_packed_without_end(elf_path: Path, tmp_path: Path) -> None:
    data = elf_path.read_bytes()
    for _ in range(9):
        data = gzip.compress(data)
    (tmp_path / "kernel").write_bytes(data)
    with pytest.raises(BadImage, match="more than 8 times"):
        Image.load(tmp_path / "kernel")
