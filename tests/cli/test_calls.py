"""``call``: a kernel's function by a command line."""

from __future__ import annotations

import pytest

from kgdbpatch.kernel import Kernel

from .conftest import Cli

each_guest = pytest.mark.parametrize(
    "profile",
    [
        pytest.param("darwin", marks=pytest.mark.kernel("darwin")),
        pytest.param("linux", marks=[pytest.mark.kernel("linux"), pytest.mark.linux]),
    ],
)


@each_guest
def test_values(guest_cli: Cli, kernel: Kernel, profile: str) -> None:
    called = guest_cli("call", kernel.name, "strlen", '"hello"', "--json")
    assert called.code == 0, called.err
    address = kernel.resolve("strlen")
    name = kernel.image.symbolize(address)
    known = {"function": "strlen", "address": address, "symbol": name}
    told = called.json
    assert told.pop("type") in ("size_t", "__kernel_size_t")
    assert told == {**known, "value": 5, "signed": 5}
    less = guest_cli("call", kernel.name, "strcmp", '"a"', '"b"', "--json").json
    assert less["value"] - (1 << 32) == less["signed"] == -1
    less_told = guest_cli("call", kernel.name, "strcmp", '"a"', '"b"').out
    assert less_told == "-1 (0xffffffff)\n", "its type is int"
    bare = guest_cli("call", kernel.name, "strcmp", '"a"', '"b"', "--untyped").out
    assert bare == "4294967295 (0xffffffff)\n"
    signed = guest_cli("call", kernel.name, "strcmp", '"a"', '"b"', "--untyped", "--signed").out
    assert signed == "-1 (0xffffffff)\n"
    same = guest_cli("call", kernel.name, "memcmp", "strlen", "strlen+0x4", "0x4").out
    assert same != "0 (0x00000000)\n"
    assert guest_cli("call", kernel.name, "memcmp", "strlen+0x4", "strlen+4", "4").out == "0 (0x00000000)\n"


@each_guest
@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("nosuch",), 2, "no symbol 'nosuch'"),
        (("strlen", "nosuch"), 2, "no symbol 'nosuch'"),
        (("strlen", '"open'), 2, "is no C string"),
        (("strlen", '"\\q"'), 2, "is no escape of C"),
        (("strlen", "4294967296"), 2, "more than 32 bits"),
        (("strlen", "-2147483649"), 2, "more than 32 bits"),
        (("strlen", *"123456789"), 2, "takes 1 argument, 9 given"),
        (("strlen", "--nosuch"), 2, "--nosuch"),
        (("strlen", "1", "--timeout", "-1"), 2, "--timeout"),
        (("strlen+0x4", "1"), 2, "in the middle of a function"),
        (("strlen+0x2", "1"), 3, "multiple of 4"),
        (("panic", '"no"'), 3, "never returns"),
    ],
)
def test_what_makes_no_sense(
    guest_cli: Cli, kernel: Kernel, profile: str, words: tuple[str, ...], code: int, told: str
) -> None:
    done = guest_cli("call", kernel.name, *words)
    assert (done.code, done.out) == (code, ""), done.err
    assert told in done.err
    assert done.err.count("\n") == 1
    assert kernel.verify().ok


@each_guest
def test_a_paused_guest(guest_cli: Cli, kernel: Kernel, profile: str) -> None:
    kernel.pause()
    try:
        done = guest_cli("call", kernel.name, "strlen", '"a"')
    finally:
        kernel.resume()
    assert done.code == 4
    assert "is paused" in done.err


@pytest.mark.linux
@pytest.mark.kernel("linux")
def test_one_that_takes_too_long(guest_cli: Cli, kernel: Kernel) -> None:
    done = guest_cli("call", kernel.name, "msleep", "3000", "--timeout", "1")
    assert done.code == 4
    assert "has not returned within 1 s" in done.err
    position = kernel.log.position()
    for _ in range(4):  # one a second
        kernel.log.wait("selfcheck", since=position)
        position = kernel.log.position()
    assert guest_cli("call", kernel.name, "int_sqrt", "16").out == "4 (0x00000004)\n"
