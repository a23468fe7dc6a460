"""The kernel component: guest-resident stub, arena, page mapping, cache flush, patch table."""

from kgdbpatch.component.arena import Header
from kgdbpatch.component.client import ComponentClient
from kgdbpatch.component.table import Record, Table

__all__ = ["ComponentClient", "Header", "Record", "Table"]
