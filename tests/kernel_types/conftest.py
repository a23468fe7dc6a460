from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kgdbpatch.guests import Recipe
from kgdbpatch.toolchain.support import FLAGS
from kgdbpatch.types import KernelTypes

GCC = "powerpc-linux-gnu-gcc"
Compile = Callable[..., Path]


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """Compile C with options, for debug information of a kind."""
    if shutil.which(GCC) is None:
        pytest.skip(f"{GCC} is not installed")

    def call(source: str, *options: str, compiler: str = GCC) -> Path:
        directory = tmp_path_factory.mktemp("types")
        (directory / "source.c").write_text(source)
        made = directory / "source.o"
        subprocess.run([compiler, *options, "-c", "-o", made, directory / "source.c"], check=True)
        return made

    return call


@pytest.fixture(scope="session")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Return what the compiler says of a header, as payloads are compiled."""
    if shutil.which(GCC) is None:
        pytest.skip(f"{GCC} is not installed")
    directory = tmp_path_factory.mktemp("headers")

    def call(header: str) -> str:
        (directory / "header.c").write_text(header)
        command = [GCC, *FLAGS, "-fsyntax-only", str(directory / "header.c")]
        done = subprocess.run(command, capture_output=True, text=True)
        return done.stderr

    return call


@pytest.fixture(scope="session")
def linux() -> KernelTypes:
    """Return the types of the bundled Linux, where it is built."""
    path = Recipe.find("linux").image_path()
    if path is None:
        pytest.skip("the image of 'linux' is not built")
    return KernelTypes.of(path)
