"""The tiny kernel, linked once."""

from __future__ import annotations

import pytest

from kgdbpatch.image import Image

from .tiny import build


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return build(tmp_path_factory.mktemp("tiny"))
