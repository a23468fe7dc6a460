"""The one cache: what took time to find out (`entries`) and what was built (`builds`)."""

from __future__ import annotations

from kgdbpatch.store.builds import content_key, made_once
from kgdbpatch.store.entries import directory, load, save

__all__ = ["content_key", "directory", "load", "made_once", "save"]
