"""Functions are timed by what their threads have run, on two CPUs: the kernel's own accounts judge."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from kgdbpatch.guests import linux_build
from kgdbpatch.guests.linux_tree import cached_tree
from kgdbpatch.guests.sources import guest_sources
from kgdbpatch.kernel import Kernel
from kgdbpatch.kernel.thread_timers import ThreadTimers
from kgdbpatch.variables.values import Value

from .test_updates_smp import BUNDLED, silent

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(14400),
    pytest.mark.skipif(shutil.which("qemu-system-ppc64") is None, reason="no QEMU runs two at the same time"),
]
MINE, THREADS = 0x4000_0000, 4
WORK = """
#include <kgdbpatch.h>
struct task_struct;
extern unsigned long long task_sched_runtime(void *);
extern int wake_up_process(struct task_struct *);
extern struct task_struct *kthread_create_on_node(int (*)(void *), void *, int, const char *, ...);
extern void msleep(unsigned), yield(void);
volatile unsigned long go, done;
unsigned long long ran[%(threads)d];

static unsigned long long so_far(void)
{
    unsigned long task;
    __asm__ volatile("mr %%0,2" : "=r"(task));
    return task_sched_runtime((void *)task);
}

static void burn(unsigned long times)
{
    __asm__ volatile("mtctr %%0\\n0:\\tbdnz 0b" : : "r"(times) : "ctr");
}

static int run(void *number)
{
    extern long int_sqrt(long);
    while (!go)
        msleep(20);
    int_sqrt(%(mine)d + (long)number);
    __atomic_fetch_add(&done, 1, 0);
    return 0;
}

long replaced(long what)
{
    unsigned long long before;
    long round;
    if (what < %(mine)d || what > %(mine)d + %(threads)d)
        return KGP_ORIGINAL(long, long)(what);
    if (what == %(mine)d + %(threads)d) {
        for (round = 0; round < %(threads)d; round++)
            wake_up_process(kthread_create_on_node(run, (void *)round, -1, "timed"));
        return 0;
    }
    before = so_far();
    for (round = 0; round < 10; round++) {
        burn(20000000);
        yield();
        burn(20000000);
        msleep(20);
    }
    ran[what - %(mine)d] = so_far() - before;
    return 0;
}
"""


def number(value: Value) -> int:
    assert isinstance(value, int)
    return value


def test_threads_on_two_cpus(tmp_path: Path) -> None:
    """Who pays for a change of threads is another question: the old one here, the new one there."""
    tree = cached_tree(silent, ["vmlinux"], [guest_sources("linux") / "e500/config"])
    initrd = linux_build.build_initramfs(silent, cpu="8548")
    recipe = tmp_path / "smp.toml"
    text = BUNDLED.read_text()
    text = text.replace('builder = "kgdbpatch.guests.linux_e500"', f'kernel = "{tree / "vmlinux"}"')
    recipe.write_text(text.replace('initrd = "build_initramfs"', f'initrd = "{initrd}"'))
    with Kernel.boot(recipe) as kernel:
        assert kernel.qemu.cpus() == 2
        text = WORK % {"mine": MINE, "threads": THREADS}
        work = kernel.patch("int_sqrt", c=text, replace=True, force=True)
        with ThreadTimers(kernel, ["int_sqrt"]) as timers:
            kernel.call("int_sqrt", MINE + THREADS)
            (before,) = timers.rows()
            work.variables["go"] = 1  # nothing stops the guest from here on
            until = time.monotonic() + 300
            while number(work.variables["done"]) != THREADS:
                assert time.monotonic() < until
            (after,) = timers.rows()
        ran = work.variables["ran"]
        assert isinstance(ran, list)
        assert after.unit == "ns"
        assert after.calls == before.calls + THREADS
        timed = after.inclusive - before.inclusive
        assert timed == pytest.approx(sum(map(number, ran)), rel=0.03)
        assert after.elapsed - before.elapsed > 1.5 * timed
        print(f"two CPUs: timed {timed} ns, {timed / sum(map(number, ran)):.4f} of the kernel's own accounts")
        kernel.remove_all()
        assert kernel.verify().patched == 0
