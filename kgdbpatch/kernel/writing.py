"""Write values into a running kernel's memory: what may be written, what was there before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from kgdbpatch.component.memory_writer import change_memory
from kgdbpatch.errors import KgdbPatchError, Misuse, Refused, UnknownSymbol
from kgdbpatch.kernel.typed import STRING, TypedValue, shape_named
from kgdbpatch.variables.shape import Shape
from kgdbpatch.variables.values import Value, from_bytes, parse, show, to_bytes

if TYPE_CHECKING:
    from kgdbpatch.image import Image, Section
    from kgdbpatch.kernel.kernel import Kernel
    from kgdbpatch.kernel.memory import GuestMemory, Span
    from kgdbpatch.types import KernelTypes

__all__ = ["Writer", "Written"]

_PAGE = 4096


@dataclass(frozen=True, slots=True)
class Written:
    """What values were and are; ``pause_us`` is how long the guest stood still, 0 where it did not."""

    before: tuple[TypedValue, ...]
    after: tuple[TypedValue, ...]
    pause_us: int


class _Part(NamedTuple):
    """A piece of a section in RAM: where it is by both kinds of address."""

    physical: int
    size: int
    address: int
    section: Section
    image: Image


class Writer:
    """Writes values; ``types()`` are the kernel's."""

    def __init__(self, kernel: Kernel, memory: GuestMemory, types: Callable[[], KernelTypes]) -> None:
        self._kernel, self._memory, self._types = kernel, memory, types

    def write(
        self,
        address: int,
        values: Sequence[Value],
        type_: str,
        expect: Sequence[Value] | None,
        *,
        physical: bool,
        force: bool,
        room: int | None,
    ) -> Written:
        """Write values one behind the other; as `GuestMemory.write`."""
        kernel = self._kernel
        if not values:
            raise Misuse("nothing is to be written")
        if expect is not None and len(expect) != len(values):
            raise Misuse(f"{len(expect)} expected values for {len(values)} that are to be written")
        kernel.assure_alive()
        shapes, parsed = self._parsed(values, type_)
        _, wanted = self._parsed(expect, type_, shapes) if expect is not None else (shapes, None)
        size = sum(shape.size for shape in shapes)
        if room is not None and size > room and not force:
            where = kernel.places.name(address)
            more = f"{room} bytes on (--force writes them all the same)"
            told = f"{size} bytes at {where} go beyond its end, {more}"
            raise Refused("bounds", told, address)
        spans = self._memory.spans(address, size, physical=physical)
        with kernel._exclusive():
            code = self._check(address, size, spans, physical=physical, force=force)

            def change(before: bytes) -> bytes:
                if not physical:
                    self._memory.check(address, size, spans)
                if wanted is not None:
                    self._compare(address, shapes, wanted, before)
                parts, at = list[bytes](), 0
                for shape, value in zip(shapes, parsed, strict=True):
                    parts.append(to_bytes(shape, value, before[at : at + shape.size]))
                    at += shape.size
                return b"".join(parts)

            header = kernel._text.header() if code else None
            done = change_memory(
                kernel._component,
                kernel.qemu.ram,
                spans,
                change,
                compared=wanted is not None or code,
                code=None if header is None else header.arena,
            )
        before, after = (tuple(_values(address, shapes, data)) for data in (done.before, done.after))
        return Written(before, after, round(done.pause * 1e6))

    # ---- values --------------------------------------------------------------------------------

    def _parsed(
        self, values: Sequence[Value], type_: str, shapes: Sequence[Shape] | None = None
    ) -> tuple[list[Shape], list[Value]]:
        """Return the type of each value, and the values as they are to be stored; or `Misuse`."""
        if type_.strip() == STRING:
            texts = [_text(value) for value in values]
            if shapes is None:
                shapes = [Shape(f"char [{len(one)}]", len(one), "array", _CHAR, len(one)) for one in texts]
            for each, one in zip(shapes, texts, strict=True):
                to_bytes(each, one, bytes(each.size))  # raises for what does not fit
            return [*shapes], [*texts]
        shape = shape_named(type_, self._types)
        parsed = [
            parse(value, shape, lambda word: self._named(word, shape)) if isinstance(value, str) else value
            for value in values
        ]
        for value in parsed:
            to_bytes(shape, value, bytes(shape.size))  # raises for what does not fit
        return [shape] * len(parsed), parsed

    def _named(self, word: str, shape: Shape) -> int:
        try:
            return self._kernel.places.address(word)
        except UnknownSymbol:
            raise
        except KgdbPatchError as error:
            raise Misuse(f"'{word}' is no value of {shape.text}: {error}") from error

    def _compare(self, address: int, shapes: Sequence[Shape], wanted: Sequence[Value], before: bytes) -> None:
        name = self._kernel.places.name
        at = 0
        for shape, value in zip(shapes, wanted, strict=True):
            there = before[at : at + shape.size]
            if to_bytes(shape, value, there) != there:
                is_, not_ = (show(shape, one, name) for one in (from_bytes(shape, there), value))
                told = f"{name(address + at)} is {is_}, not {not_}: nothing was written"
                raise Refused("expected", told, address + at)
            at += shape.size

    # ---- what may be written ---------------------------------------------------------------------

    def _check(self, address: int, size: int, spans: Sequence[Span], *, physical: bool, force: bool) -> bool:
        """Return whether code is written; raise `Refused` for what may not be."""
        kernel = self._kernel
        header = kernel._text.header()
        plan = None if header is None else header.arena
        arena = range(0) if plan is None else range(plan.physical, plan.physical + plan.size)
        code = False
        for span in spans:
            if arena and span.physical < arena.stop and arena.start < span.physical + span.size:
                raise Refused(
                    "component",
                    f"{self._at(address, physical)} is memory of the kernel component and of its patches: "
                    "'kgdbpatch set' writes variables of a patch",
                    address,
                )
            for part in self._parts():
                if span.physical < part.physical + part.size and part.physical < span.physical + span.size:
                    code |= self._check_part(part, span, physical=physical, force=force)
        if code:
            self._check_sites(spans, address)
        return code

    def _at(self, address: int, physical: bool) -> str:
        return f"physical 0x{address:08x}" if physical else self._kernel.places.name(address)

    def _check_part(self, part: _Part, span: Span, *, physical: bool, force: bool) -> bool:
        """Return whether a piece of a section is code; raise `Refused` unless it may be written."""
        kernel, section = self._kernel, part.section
        at = part.address + max(span.physical - part.physical, 0)
        windows = kernel._personality.discarded(part.image)
        if any(window.start <= at < window.end for window in windows):
            if not force and not physical:
                raise Refused(
                    "discarded",
                    f"{kernel.places.name(at)} is start-up memory in {section.name}: the kernel has given "
                    "it up, and somebody else may use it by now",
                    at,
                )
            return False
        if section.executable and not force:
            raise Refused(
                "text",
                f"{kernel.places.name(at)} is the kernel's text: 'kgdbpatch apply' puts code there, "
                "'apply --replace' another function or instruction (--force writes it all the same)",
                at,
            )
        fixed = kernel._personality.constants(part.image)
        if (not section.writable or any(one.start <= at < one.end for one in fixed)) and not force:
            raise Refused(
                "read-only",
                f"{kernel.places.name(at)} in {section.name} is constant after boot "
                "(--force writes it all the same)",
                at,
            )
        return section.executable

    def _check_sites(self, spans: Sequence[Span], address: int) -> None:
        """Raise `Refused` where a patch or the component has changed a word of the text."""
        kernel = self._kernel
        for site in kernel._text.changed():
            place = self._memory.physical(site)
            hit = (one.physical - 3 <= (place or 0) < one.physical + one.size for one in spans)
            if place is not None and any(hit):
                told = f"at {kernel.places.name(site)} a patch, or the kernel component, has changed the text"
                raise Refused("patched", f"{told}: take it out before ('kgdbpatch list')", site)

    def _parts(self) -> Iterator[_Part]:
        """Yield where the sections of the kernel and of its modules are in RAM."""
        kernel = self._kernel
        for section in kernel._image.sections:
            start = self._memory.physical(section.address)
            if start is not None and section.size:
                yield _Part(start, section.size, section.address, section, kernel._image)
        modules = getattr(kernel.image, "modules", {})
        for image in modules.values():
            for section in image.sections:
                if image.module_at(section.address) is None:
                    continue
                at = section.address
                while at < section.end:
                    count = min(_PAGE - at % _PAGE, section.end - at)
                    start = self._memory.physical(at)
                    if start is not None:
                        yield _Part(start, count, at, section, image)
                    at += count


_CHAR = Shape("char", 1, "char")


def _text(value: Value) -> bytes:
    shape = Shape("char []", 0, "array", _CHAR, 0)
    found = parse(value, shape, lambda _word: 0) if isinstance(value, str) else value
    if not isinstance(found, bytes) or b"\0" in found:
        raise Misuse(f"{value!r} is no string")
    return found + b"\0"


def _values(address: int, shapes: Sequence[Shape], data: bytes) -> Iterator[TypedValue]:
    at = 0
    for shape in shapes:
        part = data[at : at + shape.size]
        yield TypedValue(address + at, shape.text, shape.size, from_bytes(shape, part), shape)
        at += shape.size
