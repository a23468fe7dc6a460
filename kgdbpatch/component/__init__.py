"""The kernel component: guest-resident stub, arena, page mapping, cache flush, patch table."""

from kgdbpatch.component.arena import Header
from kgdbpatch.component.component import Component
from kgdbpatch.component.table import Record, Table

__all__ = ["Component", "Header", "Record", "Table"]
