"""The calls by which a Linux kernel keeps addresses for somebody, without memory behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kgdbpatch.personality.base import KernelCall, Window

if TYPE_CHECKING:
    from kgdbpatch.image import Image

__all__ = [
    "allocation",
    "freeing",
    "function",
    "give_back",
    "keep",
    "maps_later",
    "system_call_entries",
]

_ENTRIES = ("system_call_exception", "DoSyscall")
_ALLOCATORS = ("module_alloc", "execmem_alloc")
_KEEPERS = ("__get_vm_area_caller", "__get_vm_area")  # the former is told who asks
_GIVER = "free_vm_area"
_PAGES = ("__get_free_pages", "get_free_pages_noprof")
_FREE_PAGES = "free_pages"
_ATOMIC = (
    0  # of all flags none (gfp.h): lowmem, at once, nothing is reclaimed; the others change with versions
)
_IOREMAP, _NO_GUARD = 0x1, 0x40  # of vm_struct's flags; the page behind is ours or another's


def function(image: Image, *names: str) -> int | None:
    """Return the address of the first of these functions that the kernel has."""
    known = image.symbols.last(names)
    return next((known[name].address for name in names if name in known), None)


def system_call_entries(image: Image) -> tuple[Window, ...]:
    """Return the function that every system call comes through, before it is known which one it is."""
    at = function(image, *_ENTRIES)
    around = None if at is None else image.function_at(at)
    return () if at is None or around is None else (Window(at, around.end),)


def maps_later(image: Image) -> bool:
    """Tell whether the kernel maps code near its own while it runs: modules, and what else is made anew."""
    return function(image, *_ALLOCATORS) is not None


def keep(image: Image, window: Window) -> KernelCall | None:
    """Return the call by which no other part of the kernel is given a range of addresses; None: no such call.

    It returns the range's structure, or 0 when some of it is taken.
    """
    keeper = function(image, *_KEEPERS)
    if keeper is None or function(image, _GIVER) is None:
        return None
    size, flags = window.end - window.start, _IOREMAP | _NO_GUARD
    return KernelCall(keeper, (size, flags, window.start, window.end, keeper))


def give_back(image: Image, handle: int) -> KernelCall | None:
    """Return the call that ends what `keep` returned; the kernel forgets what was mapped there."""
    giver = function(image, _GIVER)
    return None if giver is None else KernelCall(giver, (handle,))


def allocation(image: Image, size: int, page_shift: int) -> KernelCall | None:
    """Return the call that allocates ``size`` bytes of the linear map, a power of two; None: no such call.

    Such blocks lie at multiples of their size.
    """
    at = function(image, *_PAGES)
    known = at is not None and function(image, _FREE_PAGES) is not None
    return KernelCall(at, (_ATOMIC, _order(size, page_shift))) if at is not None and known else None


def freeing(image: Image, address: int, size: int, page_shift: int) -> KernelCall | None:
    """Return the call that frees what `allocation` gave."""
    at = function(image, _FREE_PAGES)
    return None if at is None else KernelCall(at, (address, _order(size, page_shift)))


def _order(size: int, page_shift: int) -> int:
    return size.bit_length() - 1 - page_shift
