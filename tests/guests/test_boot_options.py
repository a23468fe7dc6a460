"""What flags say of a guest is a recipe, and means the same when it is written down and read again."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgdbpatch.errors import BadImage, KgdbPatchError, Misuse
from kgdbpatch.guests import Recipe
from kgdbpatch.guests.hidden import LEAST, comfortable, fits, hiding, no_hidden_memory, told
from kgdbpatch.guests.options import BootOptions, ordered
from kgdbpatch.guests.written import written
from kgdbpatch.vm.machine import machines

from .kernels import bare, linux

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
NAMED = st.sampled_from(["kernel", "ready", "panic", "beat", "cpu", "machine"])


@pytest.fixture(scope="session")
def vmlinux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return linux(tmp_path_factory.mktemp("kernel"))


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("a, file's \\ place")
    found = {name: place / name for name in ("initrd.gz", "disk.img")}
    found["initrd.gz"].write_bytes(bytes(1000))
    found["disk.img"].write_bytes(bytes(4096))
    return found


# ---- text ------------------------------------------------------------------------------


@given(
    st.dictionaries(NAMED, TEXTS),
    st.dictionaries(st.sampled_from(["command_line", "initrd"]), TEXTS),
    st.lists(TEXTS, min_size=1),
    st.floats(0, 1e9),
    st.integers(1, 99),
)
def test_what_is_written_is_read_again(
    table: dict[str, Any], boot: dict[str, Any], words: list[str], number: float, count: int
) -> None:
    whole = {**table, "boot_deadline": number, "smp": count, "boot": {**boot, "args": words}}
    assert tomllib.loads(written(whole)) == whole


# ---- flags and recipes --------------------------------------------------------------------


def options_of_all_kinds(vmlinux: Path, files: dict[str, Path]) -> BootOptions:
    return BootOptions(
        machine="mac99",
        kernel=vmlinux,
        initrd=files["initrd.gz"],
        append="console=ttyPZ0 mem=128M",
        memory=192,
        smp=2,
        cpu="7450",
        drives=(files["disk.img"],),
        ready=r"login: \d+'",
        timeout=7.5,
        qemu=("-device", "virtio-rng-pci", "-machine", "usb=off"),
    )


def test_a_recipe_says_all_that_flags_say(vmlinux: Path, files: dict[str, Path], tmp_path: Path) -> None:
    flags = ordered("mine", options_of_all_kinds(vmlinux, files))
    (tmp_path / "other.toml").write_text(flags.text)
    kept = Recipe.load(tmp_path / "other.toml")
    for recipe in (flags, kept):
        words = recipe.qemu_args(recipe.build(print), tmp_path)
        (tmp_path / "disk0.qcow2").unlink()
        assert words[:2] == ["-smp", "2"]
        assert words[2] == "-drive"
        assert words[3].endswith("disk0.qcow2,format=qcow2,if=ide")
        assert words[4:8] == ["-device", "virtio-rng-pci", "-machine", "usb=off"]
        assert words[8:10] == ["-kernel", str(vmlinux)]
        assert words[10:12] == ["-initrd", str(files["initrd.gz"])]
        assert words[12:] == ["-append", "console=ttyPZ0 mem=128M"]
        assert (recipe.machine.name, recipe.machine.cpu, recipe.smp) == ("mac99", "7450", 2)
        assert (recipe.memory.memory, recipe.memory.announced) == (192, 160)
        assert (recipe.ready, recipe.boot_deadline) == (r"login: \d+'", 7.5)
        assert recipe.personality.name == "linux"
    assert flags.name == "mine"


def test_a_recipe_that_nothing_changes_is_itself() -> None:
    same, usual = ordered("linux", BootOptions()), Recipe.find("linux")
    assert (same.text, same.path) == (usual.text, usual.path)


def test_flags_change_a_recipe(files: dict[str, Path], tmp_path: Path) -> None:
    usual = Recipe.find("linux")
    changed = ordered("linux", BootOptions(drives=(files["disk.img"],), qemu=("-device", "x")), name="disky")
    assert changed.name == "disky"
    assert changed.drives() == [files["disk.img"]]
    assert changed.boot.args == (*usual.boot.args, "-device", "x")
    assert changed.boot.command_line == usual.boot.command_line
    assert changed.memory == usual.memory
    assert (changed.ready, changed.heartbeat, changed.builder) == (usual.ready, 1.0, usual.builder)


def test_a_kernel_of_ones_own_takes_the_place_of_the_built_one(vmlinux: Path) -> None:
    recipe = ordered("linux", BootOptions(kernel=vmlinux))
    assert recipe.build(print) == recipe.image_path() == vmlinux
    assert recipe.boot.initrd == "build_initramfs"  # of the builder, still


def test_a_guest_without_a_name_is_called_as_its_kernel(tmp_path: Path) -> None:
    kernel = linux(tmp_path, name="vm linux+1.elf")
    assert ordered(None, BootOptions(machine="g3beige", kernel=kernel)).name == "vm-linux-1"
    assert ordered(None, BootOptions(machine="g3beige", kernel=kernel), "n").name == "n"


def test_a_kernel_of_no_known_system_is_bare(tmp_path: Path) -> None:
    recipe = ordered(None, BootOptions(machine="g3beige", kernel=bare(tmp_path)))
    assert (recipe.personality.name, recipe.ready) == ("bare", r"\S")
    assert recipe.nothing_hidden is not None
    assert "--announced 256 would leave some" in recipe.nothing_hidden
    options = BootOptions(machine="g3beige", kernel=bare(tmp_path), announced=256)
    assert ordered(None, options).nothing_hidden is None


# ---- when it is ready ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("Run %s as init process", "[    0.539111] Run /init as init process"),
        ("Freeing unused kernel memory: %ldk freed", "Freeing unused kernel memory: 80k init"),
        ("nothing of the kind", "="),
    ],
)
def test_the_line_by_which_a_linux_is_known_to_be_up(tmp_path: Path, words: str, line: str) -> None:
    recipe = ordered("x", BootOptions(machine="g3beige", kernel=linux(tmp_path, words)))
    assert re.search(recipe.ready, line)
    assert (recipe.ready == r"\S") == (line == "=")


@pytest.mark.parametrize("append", ["quiet", "a quiet b", "console=x loglevel=4"])
def test_a_line_that_is_not_printed_is_not_waited_for(vmlinux: Path, append: str) -> None:
    with pytest.raises(Misuse, match="--ready"):
        ordered("x", BootOptions(machine="g3beige", kernel=vmlinux, append=append))
    ordered("x", BootOptions(machine="g3beige", kernel=vmlinux, append=append, ready="login"))
    ordered("x", BootOptions(machine="g3beige", kernel=vmlinux, append="quieter loglevel=7"))


# ---- memory --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "line", "mib"),
    [
        ("linux", "mem=256M", 256),
        ("linux", "console=ttyS0 mem=262144k quiet", 256),
        ("linux", "mem=0x10000000", 256),
        ("linux", "mem=1G", 1024),
        ("linux", "mem=64M mem=128m", 128),  # the last one counts
        ("linux", "mem=1000", 1),
        ("linux", "crashkernel_mem=256M xmem=1M memtest=4", None),
        ("linux", "mem=", None),
        ("linux", "", None),
        ("darwin", "maxmem=128 mem=1", 128),
        ("bare", "mem=128M", None),
    ],
)
def test_what_a_command_line_tells_of_memory(system: str, line: str, mib: int | None) -> None:
    assert told(system, line) == mib


@pytest.mark.parametrize(
    ("machine", "append", "memory", "plan"),
    [
        ("g3beige", "mem=256M", None, (288, 256)),
        ("g3beige", "mem=256M", 288, (288, 256)),
        ("g3beige", "mem=256M", 512, (512, 480)),
        ("g3beige", "mem=100M", None, (160, 128)),
        ("g3beige", "mem=256M", 256, (256, 256)),  # nothing is left
        ("g3beige", "mem=256M", 300, (300, 300)),  # no block ends there
        ("g3beige", "console=ttyPZ0", 128, (128, 128)),
        ("g3beige", None, None, (288, 288)),
        ("ppce500", "mem=256M", None, (320, 288)),
        ("ppce500", None, None, (320, 320)),
    ],
)
def test_hidden_is_what_the_command_line_hides(
    vmlinux: Path, machine: str, append: str | None, memory: int | None, plan: tuple[int, int]
) -> None:
    recipe = ordered("x", BootOptions(machine=machine, kernel=vmlinux, append=append, memory=memory))
    assert (recipe.memory.memory, recipe.memory.announced) == plan
    assert (recipe.nothing_hidden is None) == (plan[0] > plan[1])


@pytest.mark.parametrize("machine", machines())
def test_a_board_is_given_memory_that_it_takes(vmlinux: Path, machine: str) -> None:
    for append in (None, "mem=64M"):
        recipe = ordered("x", BootOptions(machine=machine, kernel=vmlinux, append=append, loader="as-is"))
        board = recipe.machine
        assert 0 < recipe.memory.memory <= board.max_memory_mib
        assert recipe.memory.memory % board.memory_step_mib == 0
        assert (recipe.nothing_hidden is None) == (append is not None)


def test_several_cpus_may_need_another_program(vmlinux: Path) -> None:
    for cpus, binary in ((None, "qemu-system-ppc"), (2, "qemu-system-ppc64")):
        assert ordered("x", BootOptions("ppce500", vmlinux, smp=cpus)).machine.binary == binary


@pytest.mark.parametrize(
    ("memory", "line"), [(288, "mem={announced_mib}M"), (512, "mem=384M"), (128, "mem=96M")]
)
def test_more_memory_for_a_recipe_that_says_how_much_is_used(memory: int, line: str) -> None:
    recipe = ordered("linux", BootOptions(memory=memory))
    assert line in recipe.boot.command_line
    assert (recipe.memory.memory, recipe.memory.announced) == (memory, memory - LEAST)


def test_a_command_line_of_ones_own_is_not_added_to() -> None:
    recipe = ordered("linux", BootOptions(append="console=ttyPZ0"))
    assert recipe.boot.command_line == "console=ttyPZ0"
    assert recipe.nothing_hidden is not None


@given(st.integers(1, 2047), st.integers(1, 2047))
def test_what_is_hidden_is_a_block(memory: int, used: int) -> None:
    start = hiding(memory, used)
    if start is not None:
        assert used <= start < memory
        assert fits(memory, start)
    elif memory % LEAST == 0:
        assert used > memory - LEAST or memory == LEAST
    assert 0 < comfortable(memory) <= memory


@given(st.integers(1, 1500), st.one_of(st.none(), st.integers(1, 1500)), st.sampled_from([1, 64]))
def test_the_advice_is_good(memory: int, used: int | None, step: int) -> None:
    if used is not None and hiding(memory, used) is not None:
        return
    line = "" if used is None else f"mem={used}M"
    advice = no_hidden_memory("linux", memory, step, line)
    more, less = re.search(r"--memory (\d+)", advice), re.search(r"'(mem=\d+M)'", advice)
    memory = int(more[1]) if more else memory
    said = told("linux", less[1] if less else line)
    assert said is not None
    assert hiding(memory, said) is not None
    assert memory % step == 0


# ---- mistakes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("guest", "changes", "words"),
    [
        (None, {"machine": None}, "say what to boot"),
        ("linx", {"machine": None}, "did you mean linux"),
        ("linx", {"machine": None}, "--machine and --kernel"),
        ("x", {"machine": "g3biege"}, "did you mean g3beige"),
        ("x", {"machine": "/no/board.toml"}, "No such file"),
        ("x", {"kernel": None}, "say which kernel"),
        ("x", {"ready": "("}, "'ready' is no regex"),
        ("x", {"loader": "tape"}, "'boot.loader' is qemu"),
        ("x", {"qemu": ("-gdb", "tcp::1")}, "-gdb cannot be given"),
        ("x", {"loader": "device", "append": "mem=1M"}, "'device' hands over no command line"),
        ("x", {"loader": "firmware", "initrd": Path(__file__)}, "'firmware' hands over no initrd"),
    ],
)
def test_misuse_is_told_in_a_line(
    vmlinux: Path, guest: str | None, changes: dict[str, Any], words: str
) -> None:
    given = {"machine": "g3beige", "kernel": vmlinux, **changes}
    with pytest.raises(Misuse) as caught:
        ordered(guest, BootOptions(**given))
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert "recipe /" not in str(caught.value)  # there is none


@pytest.mark.parametrize("option", ["kernel", "initrd"])
def test_a_file_that_is_not_there(vmlinux: Path, option: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {"machine": "g3beige", "kernel": vmlinux, option: tmp_path / "none"}
    with pytest.raises(BadImage, match="none: no such file"):
        ordered("x", BootOptions(**given))


def test_a_path_that_is_no_text(vmlinux: Path, tmp_path: Path) -> None:
    odd = tmp_path / "k\udcff"
    odd.write_bytes(vmlinux.read_bytes())
    with pytest.raises(KgdbPatchError, match="UTF-8"):
        ordered("x", BootOptions(machine="g3beige", kernel=odd))
