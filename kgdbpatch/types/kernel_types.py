"""`KernelTypes`: the types and prototypes of a kernel or of an object file, asked by name."""

from __future__ import annotations

import hashlib
import marshal
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol

from kgdbpatch import store
from kgdbpatch.errors import BadImage, Misuse, UnknownSymbol
from kgdbpatch.image import Image
from kgdbpatch.image.debug import debug_file
from kgdbpatch.image.near import close_names
from kgdbpatch.image.source import KernelFile
from kgdbpatch.types.btf import BtfTypes
from kgdbpatch.types.damage import guarded
from kgdbpatch.types.declare import declarator, layout
from kgdbpatch.types.dwarf import DwarfTypes
from kgdbpatch.types.entries import Entries
from kgdbpatch.types.header import write_header
from kgdbpatch.types.index import Index
from kgdbpatch.types.model import Function, Member, Record, Type, stripped
from kgdbpatch.types.record import member_record, type_record
from kgdbpatch.types.sections import BTF, DWARF, named_sections, read_sections

__all__ = ["KernelTypes"]

_DWARF = (DWARF, ".zdebug_info")
_ROOM = "types"
_MARSHAL = 4
_TAGGED = ("struct", "union", "enum")
_ORDER = ("struct", "union", "enum", "typedef", "base", "function")  # what a plain name means, first of all


class _Source(Protocol):
    """What makes types of one kind of debug information."""

    def index(self) -> Index: ...

    def at(self, place: int) -> Type: ...


@cache
def _readers() -> str:
    """Return a digest of the code that decides what an index says."""
    digest = hashlib.blake2b()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


class KernelTypes:
    """The types that the debug information in ``path`` tells of.

    >>> types = KernelTypes.of("vmlinux")
    >>> types.find("struct sk_buff").size
    176
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sha256 = KernelFile(path).sha256

    @classmethod
    def of(cls, file: str | Path | Image, given: Path | None = None) -> KernelTypes:
        """Return the types of a kernel or object file, told in ``given``, in itself or in a file beside it.

        Raises `BadImage` where nothing tells of them, `WrongKernel` where ``given`` is another kernel's.
        """
        path = file.path if isinstance(file, Image) else Path(file)
        told = named_sections(path if given is None else given)
        if given is None and DWARF in told:
            return _opened(path)
        try:
            image = file if isinstance(file, Image) else Image.load(path)
            return _opened(_told_of(image, given))
        except BadImage:
            if given is None and BTF in told:  # an object file, or nothing beside it
                return _opened(path)
            if not isinstance(file, Image):
                Image.load(path)  # what is no kernel at all is told as that
        how = "build the kernel with CONFIG_DEBUG_INFO (-g), or name a file that has it (--image FILE)"
        beside = "it" if given is not None else "it or beside it"
        raise BadImage(given or path, f"no debug information (DWARF or BTF) in {beside}: {how}")

    @cached_property
    def _source(self) -> _Source:
        sections = read_sections(self.path)
        if sections.get(DWARF):
            return DwarfTypes(self.path, Entries(sections))
        return BtfTypes(self.path, sections)

    @cached_property
    def index(self) -> Index:
        """Where what has a name is, by kind and name; remembered on disk."""
        key = f"{self._sha256[:32]}-{_readers()}"
        body = store.load(_ROOM, key)
        if body is not None:
            known: Index = marshal.loads(body)
            return known
        found = self._source.index()
        store.save(_ROOM, key, marshal.dumps(found, _MARSHAL))
        return found

    def names(self, pattern: str = "*") -> list[tuple[str, str]]:
        """Return (kind, name) of what has a name like a glob; it may begin with a kind: ``struct sk_*``."""
        kind, name = _parted(pattern)
        return [
            (one, found)
            for one in _ORDER
            if kind in (None, one)
            for found in sorted(self.index[one])
            if fnmatchcase(found, name)
        ]

    def find(self, name: str) -> Type:
        """Return the type or function of a name; `UnknownSymbol`, with near names, where there is none.

        ``struct sk_buff`` is a structure; ``sk_buff`` alone as well, where no other type has that name.
        """
        kind, plain = _parted(name)
        for one in _ORDER if kind is None else (kind,):
            if (place := self.index[one].get(plain)) is not None:
                return self._source.at(place)
        every = (found for one in _ORDER for found in self.index[one])
        raise UnknownSymbol(name, str(self.path), close_names(plain, every))

    @guarded
    def member(self, name: str, path: str) -> Member:
        """Return a member by its path (``tail.next``) from a type's begin; raise `UnknownSymbol`."""
        type_, bit, found = stripped(self.find(name)), 0, None
        for part in path.split("."):
            if not isinstance(type_, Record):
                raise Misuse(f"'{name}' has no members before '.{part}'")
            members = {one.name or "": one for one in type_.named()}
            found = members.get(part)
            if found is None:
                raise UnknownSymbol(f"{name}.{path}", str(self.path), close_names(part, members))
            bit += found.bit
            type_ = stripped(found.type)
        assert found is not None  # a path has a part
        return Member(path, found.type, bit, found.bits, found.alignment)

    @guarded
    def declaration(self, name: str) -> str:
        """Return a type's definition with places, sizes and holes; a function's prototype."""
        return layout(self.find(name))

    @guarded
    def header(self, names: Iterable[str], functions: Iterable[str] = ()) -> str:
        """Return a C header that compiles by itself: types of those names and all that they need by value.

        Functions are declared: those among ``names``, and ``functions``, whatever else has such a name.
        It fails to compile where a size or a member's place is not the kernel's.
        """
        wanted = [self.find(name) for name in names]
        wanted += [self.signature(name) for name in functions]
        return write_header(wanted, f"types of {self.path.name}")

    @guarded
    def record(self, name: str) -> dict[str, Any]:
        """Return a type or function as plain values: ``name kind size members`` and more by kind."""
        return type_record(self.find(name))

    @guarded
    def member_record(self, name: str, path: str) -> dict[str, Any]:
        """Return a `member` as plain values, with its ``declaration``."""
        found = self.member(name, path)
        width = "" if found.bits is None else f":{found.bits}"
        text = declarator(found.type, path.rpartition(".")[2] + width)
        return {**member_record(found), "declaration": text}

    def signature(self, function: str) -> Function:
        """Return the prototype of a function; raise `UnknownSymbol`."""
        place = self.index["function"].get(function)
        if place is None:
            raise UnknownSymbol(function, str(self.path), close_names(function, self.index["function"]))
        found = self._source.at(place)
        assert isinstance(found, Function)
        return found


def _opened(path: Path) -> KernelTypes:
    """Return the types of a file, the same ones as long as that stays as it is: to unpack it takes time."""
    try:
        now = path.stat()
    except OSError:
        return KernelTypes(path)  # which tells what is wrong
    return _unchanged(path, now.st_mtime_ns, now.st_size)


@lru_cache(maxsize=2)
def _unchanged(path: Path, _modified: int, _size: int) -> KernelTypes:
    return KernelTypes(path)


def _told_of(image: Image, given: Path | None) -> Path:
    """Return the file that tells of a kernel's types, by DWARF rather than by BTF."""
    try:
        return debug_file(image, given, _DWARF)
    except BadImage:
        return debug_file(image, given, (BTF,))


def _parted(name: str) -> tuple[str | None, str]:
    """Return the kind that a name says that it is of, and the name."""
    kind, _, rest = " ".join(name.split()).partition(" ")
    if rest and kind in (*_TAGGED, "typedef"):
        return kind, rest
    return None, " ".join(name.split())
