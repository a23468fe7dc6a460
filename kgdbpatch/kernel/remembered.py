"""Remember the analysis of whole kernels: it takes 2 s for Linux, and is asked for at every site.

An entry is named by the words analysed, by what else the analysis was given and by its own code.
It holds plain arrays.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from kgdbpatch import store
from kgdbpatch.analysis.interprocedural import analyze_whole
from kgdbpatch.analysis.program import ImplicitEdges
from kgdbpatch.analysis.sites import Sites
from kgdbpatch.image import Image
from kgdbpatch.isa.fields import Words

__all__ = ["sites"]


@cache
def _code() -> bytes:
    """Return a digest of the code that decides what an entry says."""
    digest = hashlib.sha256()
    for room in ("analysis", "isa"):
        for path in sorted((Path(__file__).parents[1] / room).iterdir()):
            if path.is_file():
                digest.update(path.read_bytes())
    return digest.digest()


def sites(
    image: Image,
    sections: Sequence[tuple[int, Words]],
    functions: Sequence[tuple[int, int]],
    implicit: ImplicitEdges,
    reads: Mapping[int, int],
) -> Sites:
    """Return the live registers of a kernel whose code is ``sections`` (address, words).

    ``implicit`` and ``reads`` are as in `analyze_whole`.
    """
    data = [(section.address, section.data) for section in image.sections]
    digest = hashlib.sha256(_code() + f"{image.sha256} {image.abi!r}".encode())
    digest.update(np.array(sorted(functions), dtype=np.int64).tobytes())
    digest.update(f"{implicit.fixups_known} {sorted(implicit.all.items())}".encode())
    digest.update(repr(sorted(reads.items())).encode())
    for address, words in sections:
        digest.update(address.to_bytes(8, "big") + np.ascontiguousarray(words).tobytes())
    for address, part in data:
        digest.update(address.to_bytes(8, "big") + len(part).to_bytes(8, "big") + part)
    key = digest.hexdigest()[:32]
    body = store.load("analysis", key)
    if body is not None:
        with np.load(io.BytesIO(body), allow_pickle=False) as held:
            return Sites({name: held[name] for name in held.files})
    whole = analyze_whole(sections, functions, image.abi, data, implicit, reads)
    found = Sites.of(whole, whole.solve())
    kept = io.BytesIO()
    np.savez(kept, **found.arrays)  # type: ignore[arg-type]
    store.save("analysis", key, kept.getvalue())
    return found
