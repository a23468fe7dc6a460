"""Remember the analysis of whole kernels: it takes 2 s for Linux, and is asked for at every site.

An entry is named by the words, what else the analysis was given, and its own code; it holds plain values.
"""

from __future__ import annotations

import hashlib
import marshal
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kgdbpatch import cpu, store
from kgdbpatch.analysis.liveness_index import LivenessIndex
from kgdbpatch.analysis.program import ImplicitEdges
from kgdbpatch.image import Image
from kgdbpatch.isa.fields import Words
from kgdbpatch.patch.rewritten import CHANGED, Rewritten
from kgdbpatch.patch.site_checker import OffLimits
from kgdbpatch.personality import Personality, detect

if TYPE_CHECKING:
    from kgdbpatch.component.ports import Cpu
    from kgdbpatch.coverage.lines import LineTable

__all__ = ["argless", "line_table", "liveness_index", "off_limits", "pointing_data"]

_ALIGNMENT = 16
_NOWHERE = 1 << 32  # where no code reads data
_GUARDS = ("__stack_chk_fail", "__stack_chk_fail_local")  # what compilers call for a stack that was overrun


@cache
def _code(*rooms: str) -> bytes:
    """Return a digest of the code that decides what an entry says."""
    digest = hashlib.blake2b()
    for room in rooms:
        for path in sorted((Path(__file__).parents[1] / room).rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                digest.update(path.read_bytes())
    return digest.digest()


@lru_cache(maxsize=4)
def _contents(image: Image) -> bytes:
    """Return a digest of all that an image says; what its sections hold, its own digest tells."""
    digest = hashlib.blake2b(f"{image.sha256} {image.abi!r}".encode())
    for table in (image.symbols.columns, image.functions.columns):
        digest.update(_bytes(table))
    for section in image.sections:
        digest.update(_bytes((section.name, section.address, section.size, section.executable)))
    return digest.digest()


Edges = Mapping[int, Sequence[int]]


def off_limits(
    personality: Personality, image: Image, changed: Iterable[int] = (), on: Cpu | None = None
) -> OffLimits:
    """Return the rules of one kernel ``on`` a CPU, whose running words ``changed`` are not its file's."""
    exceptional, edges, reads, words, faults = _facts(personality, image)
    rewritten = {at: Rewritten(CHANGED) for at in changed} | {
        at: Rewritten(*what) for at, what in words.items()
    }
    family = on or cpu.of_model(image.model)
    return OffLimits(
        space=family.kernel_space,
        remaps=family.remaps,
        untranslated_sections=personality.untranslated_sections,
        vectors=family.vectors(personality, image),
        discarded=tuple((window.start, window.end) for window in personality.discarded(image)),
        fault_sites=frozenset(faults),
        implicit=ImplicitEdges(exceptional, edges),
        reads=reads,
        rewritten=rewritten,
    )


def _facts(personality: Personality, image: Image) -> Any:
    """Return the exceptional edges, the edges, reads and kinds of rewritten words, and the fault sites."""
    code = _code("personality", "image", "isa", "patch")
    kind = f"rules {type(personality).__module__}.{type(personality).__qualname__}"
    key = hashlib.blake2b(code + kind.encode() + _contents(image)).hexdigest()[:32]
    body = store.load("analysis", key)
    if body is not None:
        return marshal.loads(body)
    exceptional, rewritten = personality.exceptional_edges(image), personality.rewritten(image)
    found = (
        None if exceptional is None else _plain(exceptional),
        _plain(personality.rewritten_edges(image)),
        dict(personality.rewritten_reads(image)),
        {at: (what.kind, what.name, what.target) for at, what in rewritten.items()},
        sorted(personality.fault_sites(image)),
    )
    store.save("analysis", key, _bytes(found))
    return found


def _looked_up(image: Image) -> list[tuple[int, int]]:
    return [(window.start, window.end) for window in detect(image).looked_up(image)]


def pointing_data(image: Image) -> list[tuple[int, bytes]]:
    """Return (address, bytes) of all that may hold addresses to branch to; what is only looked up is 0.

    Of a kernel of which nothing but code is known, what lies elsewhere may hold any function's address.
    """
    out, data = _looked_up(image), []
    for section in image.sections:
        held = section.data
        for start, end in out:
            if section.address <= start < end <= section.address + len(held):
                at = start - section.address
                held = bytes(held[:at]) + bytes(end - start) + bytes(held[at + end - start :])
        data.append((section.address, held))
    if all(section.executable and not section.writable for section in image.sections):
        starts = np.array([address for address, _ in image.functions.spans()], ">u4")
        data.append((_NOWHERE, starts.tobytes()))
    return data


def argless(image: Image) -> list[int]:
    """Return the addresses of functions that compilers call without arguments, by their own convention."""
    return sorted({symbol.address for symbol in image.symbols.last(_GUARDS).values()})


def liveness_index(
    image: Image,
    sections: Sequence[tuple[int, Words]],
    functions: Sequence[tuple[int, int]],
    implicit: ImplicitEdges,
    reads: Mapping[int, int],
) -> LivenessIndex:
    """Return the live registers of a kernel's (address, words); the rest as `analyze_program`."""
    digest = hashlib.blake2b(
        b"arrays" + _code("analysis", "image", "isa") + _contents(image) + image.model.encode()
    )
    digest.update(_bytes(sorted(functions)))
    digest.update(_bytes((implicit.fixups_known, sorted(_plain(implicit.all).items()))))
    digest.update(_bytes(sorted(reads.items())))
    digest.update(_bytes((_looked_up(image), argless(image))))
    for address, words in sections:
        digest.update(address.to_bytes(8, "big"))
        digest.update(np.ascontiguousarray(words).data)
    key = digest.hexdigest()[:32]
    body = store.load("analysis", key)
    if body is not None:
        return LivenessIndex(_unpacked(body), image.model)
    from kgdbpatch.analysis.interprocedural import analyze_program

    data = pointing_data(image)
    liveness = analyze_program(
        sections, functions, image.abi, data, implicit, reads, image.model, argless(image)
    )
    found = LivenessIndex.of(liveness, liveness.solve())
    store.save("analysis", key, _packed(found.arrays))
    return found


def line_table(path: Path) -> LineTable:
    """Return the source lines of a file with debug information."""
    from kgdbpatch.coverage.lines import LineTable, line_table

    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    key = hashlib.blake2b(b"lines" + _code("coverage") + digest).hexdigest()[:32]
    body = store.load("analysis", key)
    if body is None:
        found = line_table(path)
        arrays = {name: getattr(found, name) for name in ("address", "file", "line")}
        names = "\0".join((found.root, *found.files)).encode(errors="surrogateescape")
        store.save("analysis", key, _packed({**arrays, "names": np.frombuffer(names, np.uint8)}))
        return found
    kept: dict[str, Any] = _unpacked(body)
    root, *files = kept["names"].tobytes().decode(errors="surrogateescape").split("\0")
    return LineTable(kept["address"], kept["file"], kept["line"], tuple(files), root)


def _plain(edges: Edges) -> dict[int, tuple[int, ...]]:
    return {source: tuple(targets) for source, targets in edges.items()}


def _bytes(plain: Any) -> bytes:
    """Return what tells plain values apart: of a format without references, which depend on identity."""
    return marshal.dumps(plain, 2)


def _packed(arrays: Mapping[str, npt.NDArray[np.generic]]) -> bytes:
    """Return arrays one behind the other, and before them where each is."""
    index, at = {}, 0
    for name, array in arrays.items():
        index[name] = (array.dtype.str, array.shape, at)
        at += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
    head = _bytes(index)
    head = len(head).to_bytes(_ALIGNMENT, "big") + head
    parts = [head, *(np.ascontiguousarray(array).tobytes() for array in arrays.values())]
    return b"".join(part + bytes(-len(part) % _ALIGNMENT) for part in parts)


def _unpacked(body: bytes) -> dict[str, npt.NDArray[np.generic]]:
    size = int.from_bytes(body[:_ALIGNMENT], "big")
    start = -(-(_ALIGNMENT + size) // _ALIGNMENT) * _ALIGNMENT
    index = marshal.loads(body[_ALIGNMENT : _ALIGNMENT + size])
    return {
        name: np.frombuffer(body, kind, math.prod(shape), start + at).reshape(shape)
        for name, (kind, shape, at) in index.items()
    }
