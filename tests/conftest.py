"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("no times", deadline=None)  # machines are busy at times
settings.load_profile("no times")
