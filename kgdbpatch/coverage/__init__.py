"""What of a kernel was executed: blocks, as functions, files and lines; reports and differences. Pure."""

from __future__ import annotations

__all__: list[str] = []
