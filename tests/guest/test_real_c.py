"""Payloads of several files, objects and archives, with the kernel's types or its tree's headers.

The judges are the kernel's own answers, GDB and the guest's console.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from image.machobject import build, read_elf_object

from kgdbpatch.errors import Misuse, Refused, WrongKernel
from kgdbpatch.kernel import Kernel
from kgdbpatch.types import KernelTypes

from .test_changed_kernel import ASKED, INCLUDE, Asked, call
from .work import beat, empty

pytestmark = pytest.mark.long

TYPES = "#include <kgdbpatch/types.h>\n"
BOTH = [
    pytest.param("darwin", marks=pytest.mark.kernel("darwin")),
    pytest.param("linux", marks=[pytest.mark.kernel("linux"), pytest.mark.linux]),
]
LINUX = [pytest.param("linux", marks=[pytest.mark.kernel("linux"), pytest.mark.linux])]
Make = Callable[..., Path]


@pytest.fixture(params=BOTH)
def asked(request: pytest.FixtureRequest) -> Asked:
    return ASKED[request.param]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make an object of C or assembler (of GCC's for Linux, with its own options), or an archive."""

    def build(name: str, text: str = "", *options: str, members: tuple[Path, ...] = ()) -> Path:
        made = tmp_path / name
        if members:
            subprocess.run(["powerpc-linux-gnu-ar", "rcs", made, *members], check=True)
            return made
        source = made.with_suffix(".s" if text.startswith(".") else ".c")
        source.write_text(text)
        command = ["powerpc-linux-gnu-gcc", "-O2", "-g", "-mcpu=750", "-ffreestanding", "-fno-pic", *options]
        subprocess.run([*command, "-c", "-o", made, source], check=True)
        return made

    return build


def replacement(asked: Asked, value: str) -> str:
    return (
        f"{INCLUDE}{asked.prototype} {{"
        f"return ({asked.mine}) ? ({value}) : KGP_ORIGINAL({asked.type})(a); }}\n"
    )


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_a_payload_of_many_files(
    kernel: Kernel, asked: Asked, make: Make, tmp_path: Path, compiler: str
) -> None:
    """C, an object, members of an archive; weak, common and static names; data of all kinds; -I, -D."""
    if compiler == "clang":
        pytest.importorskip("shutil").which("clang") or pytest.skip("clang is not installed")
    (tmp_path / "include").mkdir()
    (tmp_path / "include/mine.h").write_text("int from_file(void), from_object(void), chosen(void);\n")
    first = tmp_path / "first.c"
    first.write_text(
        "#include <mine.h>\nextern int shared, counter; static int own = 1; const int table[3] = {1, 2, 3};\n"
        "int chosen(void) { return 100; }\n"
        + replacement(
            asked, "from_file() + from_object() + chosen() + table[own] + shared++ + counter + MORE"
        )
    )
    second = tmp_path / "second.c"
    second.write_text(
        "static int own = 4; int counter = 5; int shared; int from_file(void) { return own++; }\n"
    )
    third = make(
        "third.o",
        "int shared; __attribute__((weak)) int chosen(void) { return 1; } int from_archive(void);\n"
        "int from_object(void) { return from_archive(); }",
        "-fcommon",
    )
    member = make("member.o", "int from_archive(void) { return 1000; }", "-fPIC")
    archive = make("lib.a", members=(member, make("other.o", "int never[5000] = { 1 };")))
    with kernel.patch(
        asked.function,
        c=[first, second, third, archive],
        entry="f",
        replace=True,
        include=[tmp_path / "include"],
        define=["MORE=10000"],
        compiler=compiler,
    ) as patch:
        assert patch.plan is not None
        assert len(patch.plan.code) < 2000
        for time in range(3):
            assert call(kernel, asked) == 4 + time + 1000 + 100 + 2 + time + 5 + 10000
        assert kernel.verify().ok
    assert call(kernel, asked) == asked.value
    beat(kernel)
    empty(kernel)


# a variable, its type, how GDB calls it: of a Mach-O kernel it knows functions by name, but no variables
NAMED = {
    "darwin": ("kernel_map", "struct vm_map", "((struct vm_map *)ADDRESS)->"),
    "linux": ("init_task", "struct task_struct", "init_task."),
}


def test_the_kernels_types_are_there_for_what_names_them(kernel: Kernel, asked: Asked) -> None:
    """Addresses of members, as the payload has them and as GDB has them."""
    variable, type_, shown = NAMED["linux" if kernel.image.format == "elf" else "darwin"]
    members = [one["name"] for one in KernelTypes.of(kernel.image).record(type_)["members"] if one["name"]]
    plain = [name for name in members[-3:] + members[:2] if re.fullmatch(r"\w+", name)]
    shown = shown.replace("ADDRESS", str(kernel.image.lookup(variable)))
    with kernel.inspected() as inspection:
        places = [f"(unsigned)&{shown}{member}" for member in plain]
        expected = [inspection.evaluate(place).number for place in places]
    found = []
    for member in plain:
        declared = f"extern {type_} {variable};\n"
        text = TYPES + declared + replacement(asked, f"(unsigned long)&{variable}.{member}")
        with kernel.patch(asked.function, c=text, replace=True):
            found.append(call(kernel, asked))
    assert found == expected
    empty(kernel)


@pytest.mark.parametrize("asked", LINUX, indirect=True)
def test_the_kernels_functions_are_declared(kernel: Kernel, asked: Asked) -> None:
    text = TYPES + replacement(asked, "nr_free_buffer_pages() + sizeof(struct sk_buff) + sizeof(u16)")
    size = KernelTypes.of(kernel.image).find("struct sk_buff").size
    assert size is not None
    with kernel.patch(asked.function, c=text, replace=True):
        assert abs(call(kernel, asked) - size - 2 - kernel.call("nr_free_buffer_pages")) < 3000
    empty(kernel)


def tree(path: Path, kernel: Kernel, changed: str = "") -> Path:
    """Make a build tree with Kbuild's notes and one header: the kernel's own types, or with one changed."""
    header = KernelTypes.of(kernel.image).header(["struct task_struct"])
    header = re.sub(r"(?m)^_Static_assert.*\n", "", header) if changed else header
    if changed:
        assert changed in header
        header = header.replace(changed, f"long more;\n\t{changed}", 1)
    (path / "include/linux").mkdir(parents=True)
    (path / "include/linux/sched.h").write_text(header)
    (path / "kernel").mkdir()
    (path / "include/flags.h").write_text("#define current ((struct task_struct *)kgp_current)\n")
    words = (
        "powerpc-linux-gnu-gcc -Wp,-MMD,kernel/.fork.o.d -nostdinc -I./include -include ./include/flags.h "
        "-D__KERNEL__ -std=gnu11 -m32 -msoft-float -mcpu=powerpc -O2 -ffixed-r2 -fstack-protector-strong -pg "
        """-g -DKBUILD_MODNAME='"fork"' -c -o kernel/fork.o kernel/fork.c"""
    )
    (path / "kernel/.fork.o.cmd").write_text(
        f"savedcmd_kernel/fork.o := {words}\n\nsource_kernel/fork.o := kernel/fork.c\n"
    )
    return path


WHO = """
#include <linux/sched.h>
#include <kgdbpatch.h>
register void *kgp_current __asm__("r2");

void who(struct kgp_regs *regs)
{
    static int said;
    if (!said++)
        kgp_printf("who: %d is %s\\n", current->pid, current->comm);
}
"""


def check_who(kernel: Kernel, tree: Path, source: Path) -> None:
    """Have a payload tell which thread sends a datagram, and ask the console whether it is so called."""
    mark = kernel.log.position()
    with kernel.patch("udp_sendmsg", c=source, kbuild=tree):
        told = re.search(r"who: (\d+) is (\S+)", kernel.log.wait("who:", since=mark, deadline=60).message)
    assert told is not None
    mark = kernel.log.position()
    kernel.send(f"read /proc/{told[1]}/comm\n")
    kernel.log.wait(rf"(^|\s){told[2]}\s*$", since=mark, deadline=60)
    beat(kernel)
    empty(kernel)


@pytest.mark.parametrize("asked", LINUX, indirect=True)
def test_a_payload_is_compiled_as_the_kernels_tree_compiles(
    kernel: Kernel, asked: Asked, tmp_path: Path
) -> None:
    source = tmp_path / "who.c"
    source.write_text(WHO)
    check_who(kernel, tree(tmp_path / "tree", kernel), source)
    other = tree(tmp_path / "other", kernel, "char comm[16]")
    with pytest.raises(
        WrongKernel, match=r"other is not the tree of vmlinux: struct task_struct has a member 'more'"
    ):
        kernel.patch("udp_sendmsg", c=source, kbuild=other)
    with pytest.raises(Misuse, match="is not built, there is no"):
        kernel.patch("udp_sendmsg", c=source, kbuild=tmp_path)
    assert kernel.patches == []


def test_a_signature_that_is_not_the_kernels_is_refused(kernel: Kernel, asked: Asked) -> None:
    """Both are shown; whoever knows better may force it, and the table tells that."""
    wrong = f"{INCLUDE}long long f(short *x, ...) {{ return *x; }}"
    with pytest.raises(Refused) as error:
        kernel.patch(asked.function, c=wrong, replace=True)
    assert (error.value.rule, error.value.exit_code) == ("signature", 3)
    told = str(error.value)
    assert "yours is 'long long int f(short int *x, ...)'" in told
    assert re.search(rf"the kernel's '[^']*\b{asked.function}\([^']*\)'$", told), told
    forced = (
        replacement(asked, "77")
        .replace(asked.prototype, "long long f(unsigned long a, int b)")
        .replace("(a); }", "((void *)a); }" if "*" in asked.type else "(a); }")
    )
    patch = kernel.patch(asked.function, c=forced, replace=True, force=True)
    assert patch.forced == kernel.patches[0].forced == ("signature",)
    assert kernel.call(asked.function, asked.other_argument) is not None
    patch.remove()
    assert call(kernel, asked) == asked.value
    empty(kernel)


REAL = """
#include <linux/skbuff.h>
#include <linux/sched.h>
#include <net/sock.h>
#include <kgdbpatch.h>

int who(struct sock *sk, struct msghdr *msg, size_t len)
{
    static int said;
    if (sk->sk_family == AF_INET && !said++)
        printk("who: %d is %s\\n", task_pid_nr(current), current->comm);
    return 0;
}
"""


@pytest.mark.skipif("KGDBPATCH_LINUX_TREE" not in os.environ, reason="no tree of the guest's kernel is named")
@pytest.mark.parametrize("asked", LINUX, indirect=True)
def test_a_real_tree(kernel: Kernel, asked: Asked, tmp_path: Path) -> None:
    source = tmp_path / "who.c"
    source.write_text(REAL)
    check_who(kernel, Path(os.environ["KGDBPATCH_LINUX_TREE"]), source)


@pytest.mark.kernel("darwin")
def test_a_mach_o_object_on_darwin(kernel: Kernel, make: Make, tmp_path: Path) -> None:
    """With data of its own, calls among its functions and calls of the kernel."""
    asked = ASKED["darwin"]
    text = (
        "extern int strcmp(const char *, const char *); int counter = 5; static int zeroed[3];\n"
        "extern const char kgp_original[];\n"
        'const char name[] = "kgp!"; int (*const compare)(const char *, const char *) = strcmp;\n'
        "__attribute__((noinline)) static int same(const char *a) { return !compare(a, name); }\n"
        f"{asked.prototype} {{ if (same(a)) return 70 + counter++ + zeroed[1]++;"
        "return strcmp(a, name) ? ((unsigned (*)(const char *))(unsigned long)kgp_original)(a) : 0; }\n"
    )
    elf = make("elf.o", text, "-fno-merge-constants", "-g0", "-fno-section-anchors", "-msoft-float", "-G0")
    macho = tmp_path / "macho.o"
    macho.write_bytes(build(read_elf_object(elf.read_bytes()), scattered=True))
    with kernel.patch(asked.function, c=macho, entry="f", replace=True) as patch:
        assert any("no debug information" in warning for warning in patch.warnings)
        assert [call(kernel, asked) for _ in range(3)] == [75, 77, 79]
    assert call(kernel, asked) == asked.value
    beat(kernel)
    empty(kernel)
