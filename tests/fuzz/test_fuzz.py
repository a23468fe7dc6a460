"""Damaged images and random words: no error but our own, no hang, no blow-up of memory.

The short version runs with the other tests; ``-m soak`` goes on for ten minutes.
"""

from __future__ import annotations

import contextlib
import os
import resource
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from image.conftest import macho
from image.kallsyms_blob import LAYOUTS, blob
from image.machobject import ElfObject, build
from image.machofile import function_stabs

from kgdbpatch.analysis import regset
from kgdbpatch.analysis.function_starts import guess_functions
from kgdbpatch.errors import KgdbPatchError
from kgdbpatch.image.kallsyms import find_kallsyms
from kgdbpatch.image.memory import image_from_memory
from kgdbpatch.isa.decode import decode, decode_array
from kgdbpatch.kernel import catalog

from .damage import damaged

_SOAK_SECONDS = float(os.environ.get("KGDBPATCH_SOAK_SECONDS", "600"))
_EXAMPLES = {"short": 150, "soak": 1000}
_SLOWEST = 5000  # milliseconds that one example may take: there are busy machines
_ROOM = 1 << 31  # bytes by which the address space may grow
_GROWTH = 256 << 10  # KiB by which the resident set may grow

Target = Callable[[Path, bytes], None]


def _use(path: Path, data: bytes) -> None:
    """Load a file and touch whatever is made of it on first use."""
    path.write_bytes(data)
    with contextlib.suppress(KgdbPatchError):
        image = catalog.open_image(str(path))
        for function in image.functions[:20]:
            assert image.function_at(function.address) is not None
            assert image.symbolize(function.address + 4)
        for symbol in image.symbols[:20]:
            image.symbolize(symbol.address)
            with contextlib.suppress(KgdbPatchError):
                image.lookup(symbol.name)
        for section in image.sections[:20]:
            with contextlib.suppress(KgdbPatchError):
                image.read(section.address, min(section.size, 64))
        for section in image.code_sections():
            regset.uses(decode_array(image.words(section)))


def _words(_: Path, data: bytes) -> None:
    words = np.frombuffer(data[: len(data) & ~3], ">u4").astype(np.uint32)
    decoded = decode_array(words)
    defs, uses = regset.defs(decoded), regset.uses(decoded)
    for n, word in enumerate(words[:64].tolist()):
        one = decode(word, 0xC0000000 + 4 * n)
        assert (one.form, one.kind) == (decoded.form[n], decoded.kind[n])
        assert (regset.from_mask(one.defs), regset.from_mask(one.uses)) == (defs[n], uses[n])
        assert one.text
        assert one.memory is None or one.memory.width
    end = 0
    for address, size in guess_functions([(0xC0000000, words)], [(0xD0000000, words)]):
        assert end <= address
        end = address + size


def _memory(_: Path, data: bytes) -> None:
    find_kallsyms(data)
    with contextlib.suppress(KgdbPatchError):
        image_from_memory("fuzz", [(0, data)])


def _kext() -> bytes:
    text = struct.pack(">4I", 0x3C600000, 0x38630000, 0x48000001, 0x4E800020)
    elf = ElfObject(
        sections={".text": (1, 16, text), ".data": (2, 8, bytes(8)), ".bss": (3, 32, b"")},
        symbols=[
            ("_f", 0, 16, 1, True),
            ("_room", 4, 64, 0xFFF2, True),
            ("_printf", 0, 0, 0, True),
            ("_d", 0, 8, 2, False),
        ],
        relocations=[
            (".text", 2, 6, 3, 4),
            (".text", 6, 4, 3, 4),
            (".text", 8, 10, 2, 0),
            (".data", 0, 1, 1, 0),
            (".data", 4, 26, 0, 4),
        ],
    )
    return build(elf, scattered=True)


def _elf() -> bytes:
    """Return a small ELF kernel, written here so that no compiler is needed."""
    text = struct.pack(">6I", 0x9421FFF0, 0x48000009, 0x4E800020, 0x38600001, 0x4E800020, 0)
    names = b"\0.text\0.symtab\0.strtab\0.shstrtab\0"
    strings = b"\0start\0inner\0"
    symbols = bytes(16) + struct.pack(">3I2BH", 1, 0xC0000000, 12, 0x12, 0, 1)
    symbols += struct.pack(">3I2BH", 7, 0xC000000C, 0, 0x10, 0, 1)
    bodies = [text, symbols, strings, names]
    at, offsets = 52 + 32, []
    for body in bodies:
        offsets.append(at)
        at += -(-len(body) // 4) * 4
    header = b"\x7fELF\x01\x02\x01" + bytes(9)
    header += struct.pack(">2H5I6H", 2, 20, 1, 0xC0000000, 52, at, 0, 52, 32, 1, 40, 5, 4)
    segment = struct.pack(">8I", 1, offsets[0], 0xC0000000, 0, len(text), len(text), 5, 4)
    sections = bytes(40)
    rows = [(1, 1, 6, 0xC0000000, 0, 0), (7, 2, 0, 0, 3, 1), (15, 3, 0, 0, 0, 0), (23, 3, 0, 0, 0, 0)]
    for (name, kind, flags, address, link, info), offset, body in zip(rows, offsets, bodies, strict=True):
        entry = 16 if kind == 2 else 0
        sections += struct.pack(">10I", name, kind, flags, address, offset, len(body), link, info, 4, entry)
    padded = b"".join(body + bytes(-len(body) % 4) for body in bodies)
    return header + segment + padded + sections


def _universal(part: bytes) -> bytes:
    return struct.pack(">7I", 0xCAFEBABE, 1, 18, 0, 28, len(part), 0) + part


def _macho() -> bytes:
    file = macho()
    file.symbols += function_stabs("f", 2, 0x3000, 0x10)
    return file.build()


_KERNEL = [(name, "T", 0xC0000000 + 16 * n) for n, name in enumerate(["_stext", "f", "_etext", "_end"] * 100)]
_FILES: dict[str, tuple[Target, list[bytes]]] = {
    "macho": (_use, [_macho(), _universal(_macho())]),
    "elf": (_use, [_elf()]),
    "kext": (_use, [_kext()]),
    "memory": (_memory, [bytes(64) + blob(_KERNEL, layout) for layout in LAYOUTS]),
}


def _cases(name: str) -> tuple[Target, st.SearchStrategy[bytes]]:
    if name == "words":
        return _words, st.binary(max_size=2048)
    if name == "bytes":
        magics = [b"\x7fELF\x01\x02\x01", b"\xfe\xed\xfa\xce\0\0\0\x12", b"\xca\xfe\xba\xbe\0\0\0\x01", b""]
        return _use, st.builds(bytes.__add__, st.sampled_from(magics), st.binary(max_size=600))
    target, files = _FILES[name]
    return target, st.one_of(*map(damaged, files))


_ALL = [*_FILES, "words", "bytes"]


@pytest.fixture(autouse=True)
def _bounded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Bound the growth of memory, and remember nothing: each file is really parsed."""
    monkeypatch.setenv("KGDBPATCH_CACHE", "/dev/null/nowhere")
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + _ROOM, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident < _GROWTH


def _fuzz(name: str, path: Path, number: int, examples: int) -> None:
    target, data = _cases(name)

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=_SLOWEST,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(data)
    def once(drawn: bytes) -> None:
        target(path, drawn)

    once()


def test_the_files_are_good_before_they_are_damaged(tmp_path: Path) -> None:
    for name, (target, files) in _FILES.items():
        for data in files:
            target(tmp_path / name, data)
            if target is _use:
                assert catalog.open_image(str(tmp_path / name)).functions
            else:
                assert find_kallsyms(data)


@pytest.mark.parametrize("name", _ALL)
def test_for_a_moment(name: str, tmp_path: Path) -> None:
    _fuzz(name, tmp_path / "kernel", 1, _EXAMPLES["short"])


@pytest.mark.soak
@pytest.mark.timeout(_SOAK_SECONDS + 300)
def test_for_ten_minutes(tmp_path: Path) -> None:
    end = time.monotonic() + _SOAK_SECONDS
    rounds = 0
    while time.monotonic() < end:
        rounds += 1
        for name in _ALL:
            _fuzz(name, tmp_path / "kernel", 1000 + rounds, _EXAMPLES["soak"])
    print(f"{rounds} rounds of {len(_ALL)} times {_EXAMPLES['soak']} examples in {_SOAK_SECONDS:.0f} s")
