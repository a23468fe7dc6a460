"""Take the patches and updates of one guest along as a file, and put them into another, or in after a boot.

An update's file stands in the guest itself. What a patch was asked for by is kept beside the guest's record,
with what it was compiled to; it is found again by the patch's id, site and checksum.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kgdbpatch.component.arena import checksum
from kgdbpatch.errors import BadPatch, Misuse, Refused, UnknownSymbol
from kgdbpatch.isa.decode import Kind, decode
from kgdbpatch.patch.override import Override
from kgdbpatch.patch.request import PatchRequest
from kgdbpatch.results import PatchState
from kgdbpatch.updates.patch_file import PatchFile
from kgdbpatch.updates.sets import PATCH, UPDATE, packed_set

if TYPE_CHECKING:
    from kgdbpatch.kernel.kernel import Kernel
    from kgdbpatch.kernel.patch import Patch
    from kgdbpatch.patch.plan import Plan
    from kgdbpatch.toolchain.compile import CObject

__all__ = ["export", "keep", "put_in"]

_DIRECTORY = "requests"  # in the guest's, a file and its keys for each request
_TIDIED = 64  # every so many requests those are dropped whose patches are gone


# ---- keep ----------------------------------------------------------------------------------------


def keep(
    kernel: Kernel,
    request: PatchRequest,
    compiled: CObject | None,
    patches: Sequence[tuple[int, int, Plan]],
) -> None:
    """Keep what patches were asked for by: (id, the address that was asked for, plan) of each."""
    if patches:
        _save(kernel, _file(kernel, request, compiled, [site for _, site, _ in patches]), patches)


def _save(kernel: Kernel, file: PatchFile, patches: Sequence[tuple[int, int, Plan]]) -> None:
    keys = {str(patch): (plan.site, _checksum(plan)) for patch, _, plan in patches}
    directory = kernel.qemu.directory / _DIRECTORY
    with suppress(OSError):  # `export` tells which ones it does not know
        directory.mkdir(mode=0o700, exist_ok=True)
        name = f"{patches[0][0]:010}"
        (directory / f"{name}.zip").write_bytes(file.packed())
        (directory / f"{name}.json").write_text(json.dumps(keys))
        if len([*directory.glob("*.json")]) % _TIDIED == 0:
            _tidy(kernel, directory)


def _checksum(plan: Plan) -> int:
    return checksum(plan.code[: plan.constant_size], plan.springboard_code)


def _tidy(kernel: Kernel, directory: Path) -> None:
    standing = _standing(kernel)
    for path in directory.glob("*.json"):
        if not any(standing.get(patch) == key for patch, key in _keys(path).items()):
            path.with_suffix(".zip").unlink(missing_ok=True)
            path.unlink()


def _keys(path: Path) -> dict[int, tuple[int, int]]:
    """Return (site, checksum) of the patches of a request by their ids."""
    with suppress(OSError, ValueError):
        return {int(patch): (key[0], key[1]) for patch, key in json.loads(path.read_text()).items()}
    return {}


def _standing(kernel: Kernel) -> dict[int, tuple[int, int]]:
    raw = kernel._component.arena(kernel.header.arena).table().raw
    return {one: (site, crc) for one, site, crc in raw[["id", "site", "crc"]].tolist()}


def _built_for(kernel: Kernel) -> str:
    return f"{kernel.image.sha256} {kernel.image.model} {kernel.qemu.cpus()}"


def _file(kernel: Kernel, request: PatchRequest, compiled: CObject | None, sites: list[int]) -> PatchFile:
    bare = PatchFile(
        "count",
        ("",) * len(sites),
        tuple(sites),
        (0,) * len(sites),
        _built_for(kernel),
        via=request.via,
        count=request.count,
        force=request.force,
        replace=request.replace,
        exit=request.exit,
    )
    if request.override is not None:
        given = request.override
        value, times, every = given if isinstance(given, Override) else Override(given)
        return replace(bare, kind="return", value=value, times=times or 0, every=every)
    if request.asm is not None:
        text, name = request.assembler()
        return replace(bare, kind="asm", assembler=text, origin=name)
    if request.call is not None:
        call = request.call
        return replace(
            bare, kind="call", call=kernel.image.symbolize(call) if isinstance(call, int) else call
        )
    if compiled is None:
        return bare
    parts = [(f"{number:02}/{part.name}", part) for number, part in enumerate(compiled.parts)]
    return replace(
        bare,
        kind="c",
        origin=request.origin or str(compiled.path),
        entry=compiled.entry,
        writes=request.writes or "",
        compiler=request.compiler or "",
        kbuild="" if request.kbuild is None else str(Path(request.kbuild).absolute()),
        include=tuple(str(Path(one).absolute()) for one in request.include),
        define=tuple(request.define),
        sources={name: part.source for name, part in parts if part.source is not None},
        objects={name: part.object for name, part in parts},
    )


# ---- export --------------------------------------------------------------------------------------


def export(kernel: Kernel, left_out: Callable[[str], None]) -> bytes:
    """Return a set file of all patches and updates that stand, in their order.

    ``left_out`` is told of each patch that cannot be taken along. Raises `Misuse` where nothing stands.
    """
    updates = {row.ids[0]: row.name for row in kernel.updates if row.state is PatchState.ACTIVE}
    parts = {one for row in kernel.updates for one in row.ids}
    rows = {row.id: row for row in kernel.patch_table() if row.id not in parts and not row.coverage}
    active = {patch for patch, row in rows.items() if row.state is PatchState.ACTIVE}
    members = {first: (UPDATE, name, kernel.updates.file(name)) for first, name in updates.items()}
    standing, known = _standing(kernel), set[int]()
    for path in sorted((kernel.qemu.directory / _DIRECTORY).glob("*.json")):
        keys = _keys(path)
        of_it = [patch in active and standing.get(patch) == key for patch, key in keys.items()]
        if not any(of_it):
            continue
        archive = path.with_suffix(".zip")
        with suppress(OSError):
            file = PatchFile.parse(archive.read_bytes(), archive)
            chosen = [one for one, stands in zip(file.addresses, of_it, strict=True) if stands]
            ids = [one for one, stands in zip(keys, of_it, strict=True) if stands]
            names = tuple(kernel.image.symbolize_all(chosen))
            words = tuple(kernel.site_checker.instruction(one).word for one in chosen)
            file = replace(file, sites=names, addresses=tuple(chosen), words=words)
            members[ids[0]] = (PATCH, "", file.packed())
            known |= {*ids}
    for one in sorted(active - known):
        at = kernel.image.symbolize(rows[one].site)
        left_out(f"patch {one} at {at}: nothing is known of what it was made from")
    if not members:
        raise Misuse(f"no patches and no updates stand in '{kernel.name}': nothing can be exported")
    return packed_set([member for _, member in sorted(members.items())])


# ---- put in --------------------------------------------------------------------------------------


def put_in(
    kernel: Kernel, file: PatchFile, path: Path, progress: Callable[[str], None] = lambda _: None
) -> list[Patch]:
    """Put the patches of a file in, all of them or none; ``path`` is what it was read from.

    Raises `Refused` by the rules of a patch, and by ``expected`` where another kernel has other code there.
    """
    same = file.built_for == _built_for(kernel)
    sites = [_site(kernel, file, index, same, path) for index in range(len(file.sites))]
    with _request(file, same) as request:
        if len(sites) == 1:
            patches = [kernel.patch(sites[0], request)]
        else:
            batch = kernel.patch_all(sites, request, progress=progress)
            patches = [*batch.patches]
            if batch.refused:
                kernel.remove(*(patch.id for patch in patches))
                raise batch.refused[0]
    if same:  # with the texts that were not compiled again
        plans = [(one.id, site, one.plan) for one, site in zip(patches, sites, strict=True) if one.plan]
        _save(kernel, replace(file, addresses=tuple(sites)), plans)
    return patches


def _site(kernel: Kernel, file: PatchFile, index: int, same: bool, path: Path) -> int:
    """Return where a patch of a file is to be in this kernel."""
    name, address, word = file.sites[index], file.addresses[index], file.words[index]
    if same and kernel.image.function_at(address) is not None and "[" not in name:
        return address
    try:
        found = kernel.image.resolve(name)
        there = kernel.site_checker.instruction(found).word
    except UnknownSymbol as error:
        raise Refused("expected", f"{path}: this kernel has no {name}: {error}") from error
    if _unlinked(there, found) != _unlinked(word, address):
        told = f"{path}: at {name} this kernel has 0x{there:08x}, not 0x{word:08x}: it is other code"
        raise Refused("expected", told, found)
    return found


def _unlinked(word: int, address: int) -> int:
    """Return an instruction without what linkers fill in."""
    kind = decode(word, address).kind
    major = word >> 26
    if major == 18:
        return word & 0xFC00_0003
    if kind in (Kind.BRANCH, Kind.JUMP, Kind.CALL) and major == 16:
        return word & 0xFFFF_0003
    return word & 0xFFFF_0000 if major in _DISPLACED else word


_DISPLACED = (14, 15, 24, 25, *range(32, 56))  # addi, addis, ori, oris, loads and stores


@contextmanager
def _request(file: PatchFile, same: bool) -> Iterator[PatchRequest]:
    """Give the request that a file is; of C for the same kernel what it was compiled to, else its text."""
    how: dict[str, object] = {"via": file.via, "force": file.force, "count": file.count}
    how |= {"replace": file.replace, "exit": file.exit}
    with tempfile.TemporaryDirectory(prefix="kgdbpatch-") as directory:
        if file.kind == "asm":
            how["asm"] = file.assembler
        elif file.kind == "call":
            how["call"] = file.call
        elif file.kind == "return":
            how["override"] = Override(file.value, file.times or None, file.every)
        elif file.kind == "c":
            how["c"] = _inputs(file, same, Path(directory))
            how |= {"entry": file.entry or None, "writes": file.writes or None, "origin": file.origin}
            if not same and file.sources:
                how |= {"compiler": file.compiler or None, "kbuild": file.kbuild or None}
                how |= {"include": file.include, "define": file.define}
        try:
            request = PatchRequest(**how)  # type: ignore[arg-type]
        except Misuse as error:
            raise BadPatch(f"a file of patches asks for what cannot be: {error}") from error
        yield request


def _inputs(file: PatchFile, same: bool, directory: Path) -> list[Path]:
    if not file.objects:
        raise BadPatch("a file of patches has C patches without their objects")
    found = []
    for name, data in sorted(file.objects.items()):
        source = file.sources.get(name)
        own = source is not None and not same
        place = directory / name
        place.parent.mkdir()
        found.append(place if own else place.with_suffix(".a" if data.startswith(b"!<") else ".o"))
        found[-1].write_bytes(source if source is not None and own else data)
    return found
