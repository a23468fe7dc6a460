"""Payloads that must not link or apply: one line each, the right exit code, guest and arena as before."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kgdbpatch.errors import KgdbPatchError
from kgdbpatch.kernel import Kernel

from .test_changed_kernel import ASKED, INCLUDE, Asked
from .work import beat, empty

pytestmark = pytest.mark.long

BOTH = [
    pytest.param("darwin", marks=pytest.mark.kernel("darwin")),
    pytest.param("linux", marks=[pytest.mark.kernel("linux"), pytest.mark.linux]),
]
GCC = ("powerpc-linux-gnu-gcc", "-O2", "-g", "-mcpu=750", "-ffreestanding", "-fno-pic")
F = "void f(void) {}"
MISUSE, REFUSED, BAD = 2, 3, 5


class Bad(NamedTuple):
    """What is asked for, the exit code, what is told; ``only`` on one kernel."""

    what: dict[str, Any]
    code: int
    told: str
    only: str = ""


def assembled(instruction: str, told: str) -> Bad:
    text = f".text\n.globl f\n.type f,@function\nf: nop\n{instruction}\nblr\n"
    return Bad({"assembler": text}, BAD, told, "darwin")


def in_section(name: str, told: str) -> Bad:
    text = f'.section {name},"a"\n.long f\n.text\n.globl f\n.type f,@function\nf: blr\n'
    return Bad({"assembler": text}, BAD, told, "darwin")


def instead(text: str, **more: Any) -> dict[str, Any]:
    return {"c": INCLUDE + text, "replace": True, **more}


BAD_PAYLOADS = {
    # relocations that do not reach, or that no payload can have
    "REL14": assembled("beq FUNCTION", "R_PPC_REL14 does not get to 'FUNCTION'"),
    "REL14_BRTAKEN": assembled("beq+ FUNCTION", "R_PPC_REL14.* does not get to 'FUNCTION'"),
    "ADDR24": assembled("ba f", "R_PPC_ADDR24 does not get to"),
    "ADDR14": assembled("bca 12,2,f", "R_PPC_ADDR14 does not get to"),
    "ADDR16": assembled("li 3,f", "R_PPC_ADDR16 does not get to"),
    "UADDR16": assembled(".reloc .+2,R_PPC_UADDR16,f\nnop", "R_PPC_UADDR16 does not get to"),
    "EMB_SDA21": assembled("lwz 3,f@sda21(13)", "R_PPC_EMB_SDA21. is small data"),
    "SDAREL16": assembled("lwz 3,f@sdarel(13)", "R_PPC_SDAREL16. is small data"),
    "GOT16": assembled("lwz 3,f@got(30)", "R_PPC_GOT16. is of position-independent code"),
    "LOCAL24PC": assembled("bl _GLOBAL_OFFSET_TABLE_@local-4", "R_PPC_LOCAL24PC. is of position"),
    "TPREL16": assembled("lwz 3,t@tprel(2)", "R_PPC_TPREL16. is thread-local"),
    "SECTOFF": assembled("la 3,f@sectoff(3)", "R_PPC_SECTOFF. is a relocation that no payload"),
    "RELATIVE": assembled(".reloc .,R_PPC_RELATIVE,f\nnop", "R_PPC_RELATIVE. is of position-ind"),
    # sections that only a kernel's loader understands
    "bug table": in_section("__bug_table", "has BUG or WARN"),
    "fault table": in_section("__ex_table", "handles faults of its own"),
    "static branches": in_section("__jump_table", "has static branches"),
    "fix-ups": in_section("__ftr_fixup", "fits to its CPU"),
    "parameters": in_section("__param", "loader of modules"),
    "start-up parameters": in_section(".init.setup", "for the kernel's start-up"),
    "per-CPU data": in_section(".data..percpu", "variables of each CPU"),
    "thread-local data": in_section(".tdata", "thread-local"),
    "an odd section": in_section("mine", "section mine"),
    # names
    "missing function": Bad({"c": "void g(void); void f(void) { g(); }"}, BAD, "<c>:1: no symbol 'g'"),
    "missing variable": Bad({"c": "extern int v; int f(void) { return v; }"}, BAD, "no symbol 'v'"),
    "missing in the second": Bad({"c": [F, "void h(void); void g(void) { h(); }"]}, BAD, "no symbol 'h'"),
    "twice": Bad({"c": [F, "void f(void) { for (;;); }"]}, BAD, "'f' is defined twice: .* has it, too"),
    "variable twice": Bad({"c": [F + "int v = 1;", "int v = 2;"]}, BAD, "'v' is defined twice"),
    "twice in objects": Bad({"assembler": ".globl f\nf: blr\n", "more": [F]}, BAD, "'f' is defined twice"),
    "no such entry": Bad({"c": [F, "void g(void) {}"], "entry": "h"}, BAD, "'h'; there are: f, g"),
    "which entry": Bad({"c": F + "void g(void) {}"}, BAD, "which function is the entry.*f, g"),
    "no entry": Bad({"c": "static int x; int *y = &x;"}, BAD, "no function to call"),
    "a module's": Bad({"c": "void counter_bump(void); void f(void) { counter_bump(); }"}, BAD, "no symbol"),
    # files
    "another machine": Bad({"file": b"\x7fELF\2\1\1".ljust(64, b"\0")}, BAD, "ELF file|not for 32-bit"),
    "a damaged object": Bad({"file": b"\x7fELF\1\2\1"}, BAD, "damaged ELF file"),
    "a damaged archive": Bad({"file": b"!<arch>\nnonsense", "more": [F]}, BAD, "odd.o"),
    "a linked file": Bad({"file": Path("/proc/self/exe")}, BAD, "not for 32-bit"),
    "no code": Bad({"c": F, "options": ("-flto",)}, BAD, "compiled with -flto"),
    "no file": Bad({"c": Path("/nowhere/at/all.o")}, BAD, "no such file"),
    "Darwin's frames": Bad({"file": b"\xfe\xed\xfa\xce" + bytes(60)}, BAD, "not for 32-bit big-endian"),
    # what the code does
    "floating point": Bad({"c": "double d; void f(void) { d *= 2; }"}, BAD, "floating-point arithmetic"),
    "recursion": Bad({"c": "int f(int n) { return n ? f(n - 1) ^ f(n - 2) : 1; }"}, REFUSED, "recursion"),
    "recursion of two files": Bad(
        {"c": ["int g(int); int f(int n) { return n ? g(n) + n : 0; }",
               "int f(int); int g(int n) { return f(n - 1) * n; }"]}, REFUSED, "recursion"),
    "too much stack": Bad(
        {"c": ["void g(char *); void f(void) { char b[60000]; g(b); }", "void g(char *b) { *b = 1; }"]},
        REFUSED, "bytes of stack"),
    # signatures
    "too few parameters": Bad(instead("unsigned long f(void) { return 1; }"), REFUSED, "0 parameters"),
    "a number": Bad(instead("unsigned long f(WRONG a) { return 1; }"), REFUSED, "parameter 1 .*against"),
    "no result": Bad(instead("void f(RIGHT a) {}"), REFUSED, "the result: void against an integer"),
    "a wide result": Bad(instead("long long f(RIGHT a) { return 1; }"), REFUSED, "8 bytes against 4 bytes"),
    "more parameters": Bad(instead("unsigned f(RIGHT a, ...) { return 1; }"), REFUSED, "further arguments"),
    "in an object": Bad(
        {"c": "long long f(void) { return 0; }", "options": ("-O1",), "replace": True}, REFUSED, "8 bytes"),
    "another structure": Bad(
        instead("struct page; struct msghdr; int f(struct page *a, struct msghdr *b, int c) { return 0; }",
                site="udp_sendmsg"), REFUSED, "pointers to other structures", "linux"),
    "a clone": Bad(instead(F, site="CLONE"), REFUSED, "the compiler made it of another", "linux"),
    "a call's": Bad(instead("long long f(void) { return 0; }", site="CALL"), REFUSED, "signature is another"),
    "registers": Bad(instead("void f(struct kgp_regs *regs) {}"), BAD, "no struct kgp_regs"),
    # how C is compiled
    "no compiler": Bad({"c": F, "compiler": "tcc"}, MISUSE, "no compiler that is known"),
    "two compilers": Bad({"c": F, "compiler": "gcc", "kbuild": "/tmp"}, MISUSE, "does not go with kbuild"),
    "no C": Bad({"count": True, "include": ["/tmp"]}, MISUSE, "include goes with c"),
    "no files": Bad({"c": []}, MISUSE, "c names no file"),
    "no tree": Bad({"c": F, "kbuild": "/nowhere/at/all"}, MISUSE, "no directory of a kernel's source"),
    "an empty tree": Bad({"c": F, "kbuild": "/proc/self"}, MISUSE, "is not built"),
    "a header": Bad({"c": "#include <linux/sched.h>\n" + F}, BAD, "No such file"),
    "an error in the second": Bad({"c": [F, "int g(void) { return x; }"]}, BAD, "'x' undeclared"),
}  # fmt: skip


@pytest.fixture(params=BOTH)
def asked(request: pytest.FixtureRequest) -> Asked:
    return ASKED[request.param]


def test_there_are_many() -> None:
    assert len(BAD_PAYLOADS) > 50


def test_bad_payloads_leave_everything_as_it_was(kernel: Kernel, asked: Asked, tmp_path: Path) -> None:
    """All in one guest: after each, arena, patch table and text are as before."""
    right = "const char *" if asked.function == "strlen" else "unsigned long"
    words = {"FUNCTION": asked.function, "RIGHT": right, "WRONG": "long" if "*" in right else "char *"}
    words |= sites(kernel, asked)
    used, wrong = kernel.arena_used, []
    for number, (name, bad) in enumerate(BAD_PAYLOADS.items()):
        if bad.only and bad.only not in kernel.image.path.as_posix():
            continue
        directory = tmp_path / str(number)
        directory.mkdir()
        site, what = made(bad.what, directory, lambda text: with_words(text, words))
        told = with_words(bad.told, words)
        try:
            kernel.patch(site or asked.function, **what)
        except KgdbPatchError as error:
            said = str(error)
            if error.exit_code != bad.code or not re.search(told, said) or "\n" in said:
                wrong.append(f"{name}: exit {error.exit_code}: {said}")
        else:
            wrong.append(f"{name}: was put in")
        if kernel.arena_used != used or kernel.patches or not kernel.verify().ok:
            wrong.append(f"{name}: not as before")
            break
    assert wrong == []
    beat(kernel)
    empty(kernel)


def with_words(text: str, words: dict[str, str]) -> str:
    for name, value in words.items():
        text = text.replace(name, value)
    return text


def sites(kernel: Kernel, asked: Asked) -> dict[str, str]:
    """Return a call in a busy function, and a function that the compiler made of another."""
    function, checker = kernel[asked.busy], kernel.site_checker
    call = next(
        at
        for at in range(function.address, function.end, 4)
        if (one := checker.instruction(at)).mnemonic == "bl"
        and one.target is not None
        and one.target not in function
        and (other := kernel.image.function_at(one.target)) is not None
        and other.address == one.target
        and "." not in other.name
        and not other.name.startswith((".", "_save", "_rest"))
    )
    clones = [one.name for one in kernel.image.functions if re.search(r"\.(isra|constprop)\.\d+$", one.name)]
    return {"CALL": hex(call), "CLONE": clones[0] if clones else ""}


def made(
    what: dict[str, Any], directory: Path, word: Callable[[str], str]
) -> tuple[str | int, dict[str, Any]]:
    """Return the site and the keywords of what is asked for, its files made."""
    asked = dict(what)
    assembler, file, options = (asked.pop(key, None) for key in ("assembler", "file", "options"))
    more, site = asked.pop("more", []), word(asked.pop("site", ""))
    if isinstance(asked.get("c"), str):
        asked["c"] = word(asked["c"])
    source = None
    if assembler is not None:
        source = directory / "bad.s"
        source.write_text(word(assembler))
    elif options is not None:
        source = directory / "bad.c"
        source.write_text(asked["c"])
    if source is not None:
        subprocess.run([*GCC, *(options or ()), "-c", "-o", directory / "bad.o", source], check=True)
        asked["c"] = [directory / "bad.o", *more]
    elif isinstance(file, Path):
        asked["c"] = [file, *more]
    elif file is not None:
        (directory / "odd.o").write_bytes(file)
        asked["c"] = [directory / "odd.o", *more]
    return int(site, 16) if site.startswith("0x") else site, asked
