"""Remember the analysis of whole kernels: it takes 2 s for Linux, and is asked for at every site.

An entry is named by the words analysed, by what else the analysis was given and by its own code.
It holds plain arrays; whatever is wrong with it, it is as good as absent.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from kgdbpatch.analysis.interprocedural import analyze_whole
from kgdbpatch.analysis.sites import Sites
from kgdbpatch.image import Image
from kgdbpatch.isa.fields import Words

__all__ = ["sites"]


@cache
def _code() -> bytes:
    """Return a digest of the code that decides what an entry says."""
    digest = hashlib.sha256()
    for room in ("analysis", "isa"):
        for path in sorted((Path(__file__).parent / room).iterdir()):
            if path.is_file():
                digest.update(path.read_bytes())
    return digest.digest()


def _path(key: str) -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    home = (Path(base) if base else Path.home() / ".cache") / "kgdbpatch"
    return Path(os.environ.get("KGDBPATCH_CACHE") or home) / "analysis" / key


def sites(
    image: Image,
    sections: Sequence[tuple[int, Words]],
    functions: Sequence[tuple[int, int]],
    hidden: Mapping[int, Sequence[int]] | None,
) -> Sites:
    """Return the live registers of a kernel whose code is ``sections`` (address, words)."""
    digest = hashlib.sha256(_code() + image.sha256.encode())
    digest.update(np.array(sorted(functions), dtype=np.int64).tobytes())
    digest.update(repr(None if hidden is None else sorted(hidden.items())).encode())
    for address, words in sections:
        digest.update(address.to_bytes(8, "big") + np.ascontiguousarray(words).tobytes())
    path = _path(digest.hexdigest()[:32])
    unusable = (OSError, RuntimeError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
    with contextlib.suppress(*unusable), np.load(path, allow_pickle=False) as held:
        return Sites({name: held[name] for name in held.files})
    data = [(section.address, section.data) for section in image.sections]
    whole = analyze_whole(sections, functions, image.abi, data, hidden)
    found = Sites.of(whole, whole.solve())
    with contextlib.suppress(OSError, RuntimeError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as scratch:
            np.savez(scratch, **found.arrays)  # type: ignore[arg-type]
        Path(scratch.name).replace(path)
    return found
