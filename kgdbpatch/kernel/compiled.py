"""Make a payload of a C file: compile it, link it wherever it is to be, look at what it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kgdbpatch.errors import BadPatch
from kgdbpatch.image import Image
from kgdbpatch.isa import encode
from kgdbpatch.isa.registers import mask
from kgdbpatch.kernel.build_tree import BuildTree
from kgdbpatch.kernel.header_of_types import types_header
from kgdbpatch.kernel.names import known, shadowed
from kgdbpatch.kernel.noted import noted
from kgdbpatch.patch.depth import check_depth, depth
from kgdbpatch.patch.exits import exit_writes
from kgdbpatch.patch.payload import Payload, Replacement, blob_payload
from kgdbpatch.patch.planned import First
from kgdbpatch.patch.registers import RegistersUse, writes_of
from kgdbpatch.patch.request import PatchRequest
from kgdbpatch.toolchain.compile import CObject, Linked, compile_c, link
from kgdbpatch.toolchain.link import ORIGINAL_END, ORIGINAL_ROOM
from kgdbpatch.toolchain.payload_notes import BEGIN, PayloadNotes
from kgdbpatch.types.objects import prototype_in

__all__ = ["Compilation", "compiled", "compiled_payload"]

_LAST = 10  # the register of the eighth argument


class Compilation(NamedTuple):
    """For what C is compiled: the CPU, macros (asked for when needed), the size of kernel stacks in bytes."""

    target: str
    macros: Callable[[], Sequence[str]]
    stack: int
    uses: AbstractSet[int] = frozenset()  # the patches that names were found in, once a payload was linked
    holds: AbstractSet[tuple[str, int]] = frozenset()  # and the modules: name, address of the structure


def compiled(request: PatchRequest, image: Image, how: Compilation) -> CObject:
    """Return what a request's C is compiled to; raise `BadPatch`."""
    sources = request.c_sources()
    tree = None if request.kbuild is None else BuildTree(Path(request.kbuild), image)
    found = compile_c(
        sources,
        entry=request.entry,
        include_dirs=[Path(directory) for directory in request.include],
        target=how.target,
        defines=[*how.macros(), *request.define],
        compiler=request.compiler or "gcc",
        tree=None if tree is None else tree.compiler,
        types=lambda text: types_header(image, text),
    )
    if tree is not None:
        tree.check(found)
    return found


def compiled_payload(
    request: PatchRequest,
    compiled: CObject,
    image: Image,
    lookup: Callable[[str], int],
    place: int,
    how: Compilation,
) -> Payload:
    """Return the payload of what was compiled, linked for a trial at ``place``.

    Raises `BadPatch`, and `Refused` when it takes more stack than the kernel has.
    """
    first = request.c_sources()[0]
    name = "the C text" if isinstance(first, str) else str(first)
    abi = image.abi
    original = request.replace

    def link_at(address: int) -> Linked:
        return link(compiled, address, lookup, abi=abi, original=original, staged=lambda: bool(how.holds))

    trial = link_at(place)

    @cache
    def linked(address: int) -> Linked:
        return trial.moved(address) or link_at(address)

    def at(address: int) -> tuple[bytes, int, int]:
        moved = linked(address)
        return moved.code, moved.constant_size, moved.entry

    text = np.frombuffer(trial.code[: trial.text_size], ">u4").tolist()
    code_end = trial.address + trial.text_size
    functions = {name: place for name, place in trial.symbols.items() if place < code_end}
    found = depth(text, trial.address, functions, name)
    check_depth(found.own, how.stack, calls=found.calls, what=name)
    replaces = None
    if request.replace and compiled.notes.registers:
        raise BadPatch(
            f"{name}: a function that takes another's place has its parameters, no struct kgp_regs *"
        )
    if request.replace:
        room = trial.symbols[ORIGINAL_END] - 4 * ORIGINAL_ROOM - trial.address
        replaces = Replacement(
            lambda blob: linked(blob).entry,
            room,
            ORIGINAL_ROOM,
            cache(lambda: prototype_in(compiled.home, compiled.entry)),
        )
    exits = _exits(compiled.notes, request, name)
    payload = blob_payload(
        at,
        abi,
        text,
        called=frozenset(known(compiled.needed, lookup)),
        strays=compiled.indirect,
        warnings=shadowed(image, compiled),
        registers=None if request.exit else _registers(compiled.notes, request.writes, name),
    )
    path = compiled.path if request.origin is None else Path(request.origin)
    if request.link:
        payload = _linking(payload)
    if request.sited:
        payload = payload._replace(sited=_LAST - 1, clobbers=payload.clobbers | mask(f"r{_LAST - 1}"))
    if request.uncounted and not payload.calls:
        payload = payload._replace(counted=False)
    note = None if request.override is not None else noted(linked, path, how.uses, sorted(how.holds))
    strays = payload.strays or bool(how.uses or how.holds)  # theirs may call anything
    payload = payload._replace(replaces=replaces, exits=exits, note=note, strays=strays)
    if request.exit and BEGIN in functions:
        if payload.calls:
            raise BadPatch(f"{name}: with {BEGIN} beside it, a payload may call nothing of the kernel's")
        payload = payload._replace(begins=lambda blob: linked(blob).symbols[BEGIN])
    payload = payload._replace(uses=bool(how.uses), hands_out=trial.hands_out)
    return (
        payload if trial.init_calls is None else _with_calls(payload, linked, trial, tuple(sorted(how.holds)))
    )


def _with_calls(
    payload: Payload, linked: Callable[[int], Linked], trial: Linked, holds: tuple[tuple[str, int], ...]
) -> Payload:
    """Return a payload that has init or exit calls: others than its site call its functions then."""

    def first(address: int) -> First:
        placed = linked(address)
        assert placed.init_calls is not None
        return First(placed.first, placed.address + placed.init_calls.stage, holds)

    return payload._replace(hands_out=True, first=first if trial.first or holds else None)


def _linking(payload: Payload) -> Payload:
    """Return a payload that gets LR in the register of its last argument."""
    emit = payload.emit
    return payload._replace(
        emit=lambda at, blob: [encode.mflr(_LAST), *emit(at + 4, blob)],
        clobbers=payload.clobbers | mask(f"r{_LAST}"),
    )


def _exits(notes: PayloadNotes, request: PatchRequest, about: str) -> frozenset[str] | None:
    """Return the results that a payload at a function's exits changes, None for one that is put elsewhere."""
    if request.exit and not notes.exit:
        raise BadPatch(f"{about}: at a function's exits the only parameter is a struct kgp_exit *")
    if notes.exit and not request.exit:
        raise BadPatch(
            f"{about}: its parameter is a struct kgp_exit *: that is for a function's exits (--exit)"
        )
    if not request.exit:
        return None
    given = [named for named in (notes.writes, request.writes) if named]
    return frozenset[str]().union(*(exit_writes(named, about) for named in given))


def _registers(notes: PayloadNotes, asked: str | None, about: str) -> RegistersUse | None:
    """Return what a payload does to the registers of its site, None where it does not see them."""
    if not notes.registers:
        if asked is not None:
            raise BadPatch(
                f"{about}: its function has no parameter struct kgp_regs *: it writes no registers"
            )
        return None
    named = frozenset[str]().union(*(writes_of(given, about) for given in (notes.writes, asked) if given))
    return RegistersUse(named, notes.returns)
