"""The kernel component: guest-resident stub, arena, page mapping, cache flush, patch table."""

from kgdbpatch.component.arena import Header, Record
from kgdbpatch.component.component import Component

__all__ = ["Component", "Header", "Record"]
