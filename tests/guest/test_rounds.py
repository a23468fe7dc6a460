"""Two hundred rounds of apply, log and remove at twenty functions of each guest, under its workload."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path

import pytest

from kgdbpatch.errors import Refused
from kgdbpatch.kernel import Kernel

ROUNDS, FUNCTIONS, MOST = 200, 20, 80

PAYLOAD = """
extern int {printf}(const char *, ...);
static int printed;
void probe(void) {{ if (printed++ < 2) {printf}("{level}round {tag} hit %d\\n", printed); }}
"""


def hot_functions(kernel: Kernel, tmp_path: Path, candidates: list[str]) -> list[str]:
    """Return twenty of ``candidates`` that the workload runs, found by counting patches."""
    hot: list[str] = []
    counting = {}
    for name in candidates[:MOST]:
        try:
            counting[name] = kernel.patch(name, asm="nop\n", count=True)
        except Refused:
            continue
    mark = kernel.log.position()
    kernel.log.wait("selfcheck", deadline=30, since=mark)
    mark = kernel.log.position()
    kernel.log.wait("selfcheck", deadline=30, since=mark)
    hits = {patch.site: patch.hits for patch in kernel.patches}
    kernel.remove_all()
    hot = [name for name, applied in counting.items() if hits[applied.site]]
    assert len(hot) >= FUNCTIONS, f"only {len(hot)} of the candidates run: {hot}"
    return hot[:FUNCTIONS]


def rounds(kernel: Kernel, tmp_path: Path, printf: str, level: str, candidates: list[str]) -> None:
    functions = hot_functions(kernel, tmp_path, candidates)
    for number in range(ROUNDS):
        name = functions[number % FUNCTIONS]
        source = tmp_path / "probe.c"
        source.write_text(PAYLOAD.format(printf=printf, level=level, tag=f"{number}:{name}"))
        mark = kernel.log.position()
        with kernel.patch(name, c=source):
            line = kernel.log.wait(f"round {number}:", deadline=30, since=mark)
        assert re.fullmatch(rf"round {number}:{name} hit [12]", line.message)
    give_back(kernel)
    verified = kernel.verify()
    assert verified.ok, [kernel.image.symbolize(address) for address in verified.mismatched]
    assert verified.patched == 0
    mark = kernel.log.position()
    for _ in range(2):
        line = kernel.log.wait("selfcheck", deadline=30, since=mark)
        assert line.message.rstrip().endswith(" 0 bad")
        mark = kernel.log.position()


def give_back(kernel: Kernel) -> None:
    """Let threads leave what was removed; the arena is empty then."""
    until = time.monotonic() + 60
    while kernel.patches:
        assert time.monotonic() < until, f"still referenced: {kernel.patches}"
        kernel.log.wait("selfcheck", deadline=30, since=kernel.log.position())
        kernel.remove()
    assert kernel.arena_used == 0


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_rounds_on_darwin(kernel: Kernel, tmp_path: Path) -> None:
    never = {"_printf", "_panic", "_start"}
    text = [function.name for function in kernel.image.functions if function.section == "__TEXT,__text"]
    candidates = [name for name in text if name not in never and text.count(name) == 1]
    random.Random(1).shuffle(candidates)
    rounds(kernel, tmp_path, "printf", "", candidates)


# Called by the workload in process context, where printing is allowed.
LINUX = re.findall(
    r"\w+",
    """udp_sendmsg udp_recvmsg inet_sendmsg inet_recvmsg sock_sendmsg sock_recvmsg vfs_read vfs_write
pipe_read pipe_write do_pipe2 kernel_clone do_exit do_wait vfs_unlink path_openat do_filp_open filp_close
vfs_fstat hrtimer_nanosleep do_mmap do_munmap handle_mm_fault do_execveat_common shmem_file_read_iter
generic_file_write_iter generic_perform_write vfs_statx do_sys_openat2 ksys_read ksys_write __sys_sendto
__sys_recvfrom core_sys_select do_sys_poll do_select ip_send_skb ip_make_skb udp_send_skb copy_process
wait_task_zombie begin_new_exec load_elf_binary do_unlinkat vfs_create shmem_unlink getname_flags
do_dentry_open dput kernel_wait4 do_fault exit_mm mmput unmap_vmas""",
)


@pytest.mark.linux
@pytest.mark.kernel("linux")
@pytest.mark.xdist_group("linux")
@pytest.mark.soak
@pytest.mark.timeout(900)
def test_rounds_on_linux(kernel: Kernel, tmp_path: Path) -> None:
    known = {function.name for function in kernel.image.functions}
    rounds(kernel, tmp_path, "_printk", "\\0016", [name for name in LINUX if name in known])
