from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest

from kgdbpatch.guests import Recipe
from kgdbpatch.image import Image
from kgdbpatch.kernel import catalog
from kgdbpatch.personality.linux import kernel_option
from kgdbpatch.vm.qemu import Qemu

pytestmark = [pytest.mark.guest, pytest.mark.linux]

PROBED = {"__kretprobe_trampoline", "arch_rethook_trampoline"}  # the older name and the newer
SELFCHECK = r"selfcheck: (?P<ok>\d+) ok, (?P<bad>\d+) bad"
recipe = Recipe.find("linux")
linux = recipe.personality


@pytest.fixture(scope="module")
def image() -> Image:
    return Image.load(recipe.build(print))


@pytest.fixture(scope="module")
def guest(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Qemu]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("KGDBPATCH_RUNTIME", str(tmp_path_factory.mktemp("runtime")))
        qemu = Qemu.start(
            "linux-boot",
            recipe.machine,
            recipe.memory.memory,
            lambda directory: recipe.qemu_args(image.path, directory),
            metadata={"recipe": recipe.text, "recipe_path": str(recipe.path)},  # and no kernel file
        )
        try:
            qemu.console.wait(recipe.ready, recipe.boot_deadline)
            yield qemu
        finally:
            qemu.shutdown()


def command(guest: Qemu, line: str) -> str:
    """Send one line to init and return its answer; the answer quotes the line."""
    since = guest.console.position()
    guest.console.send(f"{line}\n")
    seen = guest.console.wait(rf"init: (?P<answer>(done|failed) {re.escape(line)}.*)", 60, since)
    return str(seen["answer"]).rstrip()


def selfcheck(guest: Qemu) -> tuple[int, int]:
    seen = guest.console.wait(SELFCHECK, 30, guest.console.position())
    return int(seen["ok"]), int(seen["bad"])


def text(guest: Qemu, image: Image) -> dict[str, np.ndarray]:
    words = {}
    for section in image.code_sections():
        physical = linux.to_physical(image, section.address)
        if physical is not None and section.name in (".head.text", ".text"):
            words[section.name] = np.frombuffer(guest.ram.read(physical, section.size), ">u4")
    return words


def test_the_workload_passes_its_checks(guest: Qemu) -> None:
    before, _ = selfcheck(guest)
    ok, bad = selfcheck(guest)
    assert bad == 0
    assert ok > before + 20


def test_every_line_after_the_first_is_a_log_line(guest: Qemu, image: Image) -> None:
    selfcheck(guest)
    lines = [line.rstrip("\r\n") for line in guest.console.lines(0)]
    first = next(number for number, line in enumerate(lines) if linux.parse_log(line))
    unparsed = [line for line in lines[first:] if line.strip() and linux.parse_log(line) is None]
    assert unparsed == []
    parsed = [line for line in map(linux.parse_log, lines) if line]
    assert {line.source for line in parsed} == {"kernel", "init"}
    assert any(line.source == "init" and line.message == "ready" for line in parsed)
    version = re.search(rb"Linux version \S+", image.path.read_bytes())
    assert version is not None
    assert any(line.source == "kernel" and line.message.startswith(version[0].decode()) for line in parsed)
    assert not any(re.search(linux.panic, line) for line in lines)


def test_the_text_is_constant_under_the_workload(guest: Qemu, image: Image) -> None:
    before = text(guest, image)
    assert set(before) == {".head.text", ".text"}
    for _ in range(3):
        selfcheck(guest)
    after = text(guest, image)
    changed = {name: np.flatnonzero(before[name] != after[name]).size for name in before}
    assert changed == {".head.text": 0, ".text": 0}


def test_boot_changes_no_words_of_the_text_but_those_that_it_is_known_to_rewrite(
    guest: Qemu, image: Image
) -> None:
    running, known = text(guest, image), linux.rewritten(image).keys()
    changed = {
        section.name: section.address + 4 * np.flatnonzero(running[section.name] != image.words(section))
        for section in image.code_sections()
        if section.name in running
    }
    others = {name: [at for at in found.tolist() if at not in known] for name, found in changed.items()}
    assert {name: found.size > 100 for name, found in changed.items()} == {".head.text": True, ".text": True}
    assert others[".head.text"] == []
    # the kernel has a probe of its own, there from the start, and newer ones branches for their tracer
    names = {image.symbolize(at).partition("+")[0] for at in others[".text"]}
    assert len(names & PROBED) == 1
    assert names - PROBED <= {"ftrace_tramp_text"}


def test_the_kernel_has_all_data_bats_itself(guest: Qemu, image: Image) -> None:
    bats = linux.to_physical(image, image.lookup("BATS"))  # the kernel's record: [index][I, D][upper, lower]
    assert bats is not None
    valid = np.frombuffer(guest.ram.read(bats, 4 * 16), ">u4").reshape(4, 2, 2)[:, :, 0] & 3
    instruction, data = (valid == 0).sum(axis=0).tolist()
    assert (instruction >= 1, data) == (True, 0)
    assert linux.arena_conflict(image, guest.ram.read) is None


def test_what_the_kernel_says_of_its_configuration(image: Image) -> None:
    """It is configured as distributions do."""
    for name in (
        *("MODULES", "MODULE_UNLOAD", "STRICT_KERNEL_RWX", "JUMP_LABEL", "DYNAMIC_FTRACE", "KPROBES"),
        *("VMAP_STACK", "STACKPROTECTOR_STRONG", "PREEMPT", "DEBUG_INFO"),
    ):
        assert kernel_option(image, name) == "y", name
    assert kernel_option(image, "DEBUG_INFO_BTF") is None
    assert kernel_option(image, "TASK_SIZE") == "0xb0000000"


def test_modules_that_are_there(guest: Qemu) -> None:
    since = guest.console.position()
    for name in ("counter", "tables"):
        assert command(guest, f"insmod /lib/{name}.ko") == f"done insmod /lib/{name}.ko"
    assert command(guest, "rmmod counter") == "done rmmod counter"
    assert guest.console.wait(r"counter: (?P<calls>\d+) calls", 10, since)
    assert command(guest, "rmmod tables") == "done rmmod tables"


def test_commands(guest: Qemu) -> None:
    assert command(guest, "bogus") == "failed bogus: no such command"
    assert command(guest, "read /nowhere") == "failed read /nowhere: No such file or directory"
    assert command(guest, "pause") == "done pause"
    try:
        assert re.fullmatch(r"done udp 100 ticks \d+", command(guest, "udp 100"))
        assert re.fullmatch(r"done getppid 1000 ticks \d+", command(guest, "getppid 1000"))
        assert "(halted)" not in guest.hmp("info cpus")
    finally:
        assert command(guest, "resume") == "done resume"
    _, bad = selfcheck(guest)
    assert bad == 0


def test_the_kernels_own_probe_counts_datagrams(guest: Qemu) -> None:
    tracing = "/sys/kernel/tracing"
    assert command(guest, "pause") == "done pause"
    try:
        for line in (
            f"{tracing}/kprobe_events p:sends udp_sendmsg",
            f"{tracing}/events/kprobes/sends/enable 1",
        ):
            assert command(guest, f"write {line}") == f"done write {line}"
        assert command(guest, "udp 250").startswith("done udp 250 ticks")
        since = guest.console.position()
        guest.console.send(f"read {tracing}/kprobe_profile\n")
        assert guest.console.wait(r"read:\s+sends\s+(\d+)\s+\d+", 30, since)[1] == "250"
    finally:
        command(guest, f"write {tracing}/events/kprobes/sends/enable 0")
        command(guest, f"write {tracing}/kprobe_events -:sends")
        command(guest, "resume")


def test_the_kernel_is_read_from_its_memory_without_its_file(guest: Qemu, image: Image) -> None:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("KGDBPATCH_RUNTIME", str(guest.directory.parent))
        live = catalog.open_image(f"memory:{guest.name}")
    (text_section,) = live.code_sections()
    of_file = {
        (n, f.address) for f in image.functions for n in (f.name, *f.aliases) if f.address in text_section
    }
    of_memory = {(n, f.address) for f in live.functions for n in (f.name, *f.aliases)}
    assert of_file <= of_memory
    assert len(of_file) > 10_000
    sizes = {function.address: function.size for function in image.functions}
    shared = [function for function in live.functions if function.address in sizes]
    # kallsyms holds no sizes: a gap before the next symbol counts as the function's
    assert all(function.size >= sizes[function.address] for function in shared)
    assert sum(function.size == sizes[function.address] for function in shared) > 0.99 * len(shared)
    words = live.words(text_section)
    main = next(section for section in image.code_sections() if section.name == ".text")
    at = (main.address - text_section.address) // 4
    same = words[at : at + main.size // 4] == image.words(main)
    assert same.mean() > 0.98  # the kernel itself patches a little of its text when it starts
