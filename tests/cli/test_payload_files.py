"""Payloads of several files and how they are compiled, from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from kgdbpatch.kernel import Kernel

from .conftest import Cli

pytestmark = pytest.mark.guest


def test_files_directories_and_macros(guest_cli: Cli, kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more/mine.h").write_text("int five(void);\n")
    one, two = tmp_path / "one.c", tmp_path / "two.c"
    one.write_text("#include <mine.h>\nunsigned one(const char *text) { return five() + MORE + *text; }\n")
    two.write_text("int five(void) { return 5; }\n")
    how = (f"-I{tmp_path / 'more'}", "-DMORE=2")
    done = guest_cli("apply", kernel.name, "strlen", "--c", one, "--c", two, *how, "--replace", "--dry-run")
    assert (done.code, done.err) == (0, "")
    how = (f"-I{tmp_path / 'more'}", "--define=MORE=2")
    done = guest_cli("apply", kernel.name, "strlen", "--c", one, *how)
    assert (done.code, done.out) == (5, "")
    assert done.err.startswith(f"kgdbpatch: error: {one}:2: no symbol 'five' in mach_kernel")
    assert done.err.count("\n") == 1


def test_a_wrong_signature(guest_cli: Cli, kernel: Kernel, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.c"
    wrong.write_text("void wrong(void) {}\n")
    done = guest_cli("apply", kernel.name, "strlen", "--c", wrong, "--replace", "--json")
    assert done.code == 3
    told = done.json
    assert (told["rule"], told["symbol"], told["nearest"]) == ("signature", "_strlen", None)
    assert "yours is 'void wrong(void)', the kernel's 'size_t strlen(const char *" in told["error"]
    done = guest_cli("apply", kernel.name, "strlen", "--c", wrong, "--replace", "--force", "--dry-run")
    assert done.code == 0
    assert "forced, against: signature" in done.out


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--count", "-I", "/tmp"], "--include goes with --c"),
        (["--c", "a.c", "--compiler", "gcc", "--kbuild", "/tmp"], "--compiler does not go with --kbuild"),
    ],
)
def test_what_does_not_go_together(guest_cli: Cli, options: list[str], told: str) -> None:
    done = guest_cli("apply", "nobody", "nowhere", *options)
    assert done.code == 2
    assert told in done.err
