"""Source patches become updates, which change a running kernel and go again; the guest's answers judge."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kgdbpatch.errors import Refused
from kgdbpatch.guests.darwin_build import build_tree
from kgdbpatch.guests.linux_tree import cached_tree
from kgdbpatch.kernel import Kernel
from kgdbpatch.results import PatchState
from kgdbpatch.updates.archive import Update, read_update, write_update
from kgdbpatch.updates.build import build_update

from .observations import DARWIN, OBSERVED, Observed, command
from .work import beat, empty

PATCHES = Path(__file__).parents[1] / "updates/patches"
ROUNDS = 200


def silent(what: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="session")
def darwin_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tree(tmp_path_factory.mktemp("darwin") / "tree", silent)


@pytest.fixture(scope="session")
def linux_tree() -> Path:
    return cached_tree(silent, sorted({one.target for one in OBSERVED} | {"kernel/signal.o"}))


def built(patch: Path, tree: Path, folder: Path) -> Path:
    """Return the update that a source patch makes."""
    path = folder / f"{patch.stem}.kup"
    write_update(build_update(patch, tree, silent), path)
    return path


@pytest.fixture
def changed(darwin_tree: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return the update that a change of darwin's source makes."""

    def made(name: str, file: str, *changes: tuple[str, str]) -> Path:
        before = after = (darwin_tree / file).read_text()
        for old, new in changes:
            assert old in after
            after = after.replace(old, new, 1)
        patch = tmp_path / f"{name}.patch"
        old_lines, new_lines = (text.splitlines(keepends=True) for text in (before, after))
        patch.write_text("".join(difflib.unified_diff(old_lines, new_lines, f"a/{file}", f"b/{file}")))
        return built(patch, darwin_tree, tmp_path)

    return made


def round_trip(kernel: Kernel, one: Observed, update: Path) -> None:
    """Apply an update, see what it does, take it out."""
    assert one.look(kernel) == one.before
    row = kernel.updates.apply(update, accept=["all"], wait=60)
    assert (row.state, row.name) == (PatchState.ACTIVE, one.name)
    assert one.look(kernel) == one.after
    kernel.updates.remove(one.name, wait=60)
    assert one.look(kernel) == one.before


@pytest.mark.kernel("darwin")
@pytest.mark.parametrize("one", DARWIN, ids=lambda one: one.name)
def test_a_source_patch_changes_darwin_and_goes_again(
    kernel: Kernel, darwin_tree: Path, tmp_path: Path, one: Observed
) -> None:
    round_trip(kernel, one, built(one.patch, darwin_tree, tmp_path))
    empty(kernel)


@pytest.mark.kernel("linux")
@pytest.mark.linux
@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("one", OBSERVED, ids=lambda one: one.name)
def test_a_source_patch_changes_linux_and_goes_again(
    kernel: Kernel, linux_tree: Path, tmp_path: Path, one: Observed
) -> None:
    round_trip(kernel, one, built(one.patch, linux_tree, tmp_path))
    empty(kernel)


@pytest.mark.kernel("linux")
@pytest.mark.linux
@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_fault_in_new_code_goes_on_where_its_source_says(
    kernel: Kernel, linux_tree: Path, tmp_path: Path
) -> None:
    one = next(one for one in OBSERVED if one.name == "function_table")
    assert command(kernel, "badread /dev/null") == ["done badread /dev/null"]
    kernel.updates.apply(built(one.patch, linux_tree, tmp_path), accept=["all"], wait=60)
    assert command(kernel, "badread /dev/null") == ["failed badread /dev/null: Bad address"]
    kernel.updates.remove("function_table", wait=60)
    command(kernel, "udp 20")  # what the fault left on the thread's stack goes
    command(kernel, "read /proc/self/status")
    empty(kernel)


@pytest.mark.kernel("linux")
@pytest.mark.linux
@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_warning_of_new_code_is_one_of_the_kernels(
    kernel: Kernel, linux_tree: Path, tmp_path: Path
) -> None:
    """The kernel looks its trap up, says where it is, and goes on; each time, or once."""
    kernel.updates.apply(built(PATCHES / "warning.patch", linux_tree, tmp_path), wait=60)
    mark = kernel.log.position()
    for _ in range(2):
        assert kernel.call("kstrtobool", 0, bytes(8)) == (1 << 32) - 22
        assert kernel.call("kstrtobool", b"?", bytes(8)) == (1 << 32) - 22
    beat(kernel)
    said = [line.message for line in kernel.log.lines(mark, everything=True)]
    warned = [line for line in said if re.search(r"WARNING: .* at lib/kstrtox.c:\d+", line)]
    assert len(warned) == 3
    kernel.updates.remove("warning", wait=60)
    command(kernel, "udp 20")
    empty(kernel)


@pytest.mark.kernel("linux")
@pytest.mark.linux
@pytest.mark.long
@pytest.mark.timeout(1200)
def test_each_thread_of_a_process_is_seen(kernel: Kernel, linux_tree: Path, tmp_path: Path) -> None:
    update = built(PATCHES / "pause.patch", linux_tree, tmp_path)
    kernel.updates.apply(update, wait=60)
    kernel.updates.remove("pause", wait=60)
    assert command(kernel, "threads 3") == ["done threads 3"]
    with pytest.raises(Refused, match=r"commands is in \S*pause") as caught:
        kernel.updates.apply(update, wait=1)
    assert caught.value.rule == "safe moment"
    assert str(caught.value).count("commands is in") == 3
    empty(kernel)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    "profile",
    [
        pytest.param("darwin", marks=pytest.mark.kernel("darwin")),
        pytest.param("linux", marks=[pytest.mark.kernel("linux"), pytest.mark.linux]),
    ],
)
def test_two_hundred_rounds_under_load(
    kernel: Kernel, profile: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    tree = request.getfixturevalue(f"{profile}_tree")
    pauses = []
    for one in DARWIN if profile == "darwin" else OBSERVED:
        update = built(one.patch, tree, tmp_path)
        round_trip(kernel, one, update)
        for _ in range(ROUNDS):
            kernel.updates.apply(update, accept=["all"], wait=60)
            pauses.append(kernel.updates.pause_us)
            kernel.updates.remove(one.name, wait=60)
        round_trip(kernel, one, update)
        beat(kernel)
    empty(kernel)
    print(f"{profile}: {len(pauses)} updates, still for {sorted(pauses)[len(pauses) // 2]} us at the median")


# ---- callbacks and the safe moment --------------------------------------------------------------------

HEAD = "static int find_counter(const char *name, uint32_t *value)\n"
ERROR = ("    return ENOENT;", "    return kgp_state;")
CALLBACKS = """
int kgp_state;
int kgp_pre_apply(void) { delay_ticks(2); return 0; }
int kgp_transform(void) { kgp_state = 41; return mfmsr() >> 15 & 1; }
void kgp_post_apply(void) { kgp_state++; }
int kgp_pre_remove(void) { delay_ticks(2); return 0; }
int kgp_revert(void) { printf("kgp: revert at %d\\n", kgp_state); return mfmsr() >> 15 & 1; }
void kgp_post_remove(void) { delay_ticks(1); printf("kgp: removed\\n"); }

"""


def answer(kernel: Kernel) -> int:
    return kernel.call("find_counter", b"nope", 0)


@pytest.mark.kernel("darwin")
def test_callbacks_run_in_their_order(kernel: Kernel, changed: Callable[..., Path]) -> None:
    update = changed("callbacks", "kern/sysctl.c", (HEAD, CALLBACKS + HEAD), ERROR)
    mark = kernel.log.position()
    kernel.updates.apply(update, wait=60)
    assert answer(kernel) == 42
    kernel.updates.remove("callbacks", wait=60)
    assert answer(kernel) == 2
    kernel.log.wait("kgp: revert at 42", since=mark)
    kernel.log.wait("kgp: removed", since=mark)
    beat(kernel)
    empty(kernel)


@pytest.mark.kernel("darwin")
@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("delay_ticks(2); return 0; }\nint kgp_t", "return 16; }\nint kgp_t", "pre_apply .* returned 16"),
        ("kgp_state = 41;", "return -11;", "transform .* returned -11"),
        ("kgp_state = 41;", "for (;;) kgp_state++;", "transform .* broken off"),
    ],
    ids=["pre_apply", "transform", "endless"],
)
@pytest.mark.timeout(300)
def test_a_veto_leaves_all_as_it_was(
    kernel: Kernel, changed: Callable[..., Path], old: str, new: str, told: str
) -> None:
    assert old in CALLBACKS
    update = changed("vetoed", "kern/sysctl.c", (HEAD, CALLBACKS.replace(old, new, 1) + HEAD), ERROR)
    with pytest.raises(Refused, match=told) as caught:
        kernel.updates.apply(update, wait=60)
    assert caught.value.rule == "veto"
    assert answer(kernel) == 2
    assert [*kernel.updates] == []
    if "broken off" not in told:  # or a process may have waited too long for an interrupt
        beat(kernel)
    empty(kernel)


@pytest.mark.kernel("darwin")
def test_who_is_inside_is_named_and_force_does_not_wait(kernel: Kernel, changed: Callable[..., Path]) -> None:
    """The network thread never leaves its loop."""
    update = changed(
        "inside", "net/netisr.c", ("        call_kept(serve, NULL);", "        (void)serve(NULL);")
    )
    with pytest.raises(Refused, match="is in _netisr_thread") as caught:
        kernel.updates.apply(update, wait=0.5)
    assert caught.value.rule == "safe moment"
    assert kernel.patches == []
    row = kernel.updates.apply(update, force=True)
    assert row.forced
    kernel.updates.remove("inside", wait=60)
    empty(kernel)


@pytest.mark.kernel("darwin")
def test_where_threads_are_not_found_nothing_is_said_to_be_safe(
    kernel: Kernel, changed: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    update = changed("blind", "kern/sysctl.c", ("    return ENOENT;", "    return 103;"))
    monkeypatch.setattr("kgdbpatch.personality.darwin.Darwin.threads", lambda *_: iter(()))
    with pytest.raises(Refused, match="threads are not found"):
        kernel.updates.apply(update)
    assert kernel.patches == []
    kernel.updates.apply(update, force=True)
    assert answer(kernel) == 103
    kernel.updates.remove("blind", force=True)
    monkeypatch.undo()
    empty(kernel)


@pytest.mark.kernel("darwin")
def test_updates_stack_and_versions_take_each_others_place(
    kernel: Kernel, changed: Callable[..., Path], tmp_path: Path
) -> None:
    updates = kernel.updates
    first, second = (
        changed(f"v{number}", "kern/sysctl.c", ("    return ENOENT;", f"    return {number};"))
        for number in (101, 102)
    )
    updates.apply(first, wait=60)
    updates.apply(second, wait=60)
    assert [row.name for row in updates] == ["v101", "v102"]
    assert answer(kernel) == 102
    again = updates.apply(second)  # the same once more is no error
    assert [row.ids for row in updates][-1] == again.ids
    with pytest.raises(Refused, match="part of the update 'v101'"):
        kernel.remove(next(iter(updates)).ids[0])
    updates.remove("v101", wait=60)
    assert answer(kernel) == 102
    updates.remove("v102", wait=60)
    assert answer(kernel) == 2
    updates.apply(first, wait=60)
    newer = read_update(second)
    write_update(Update(replace(newer.manifest, name="v101"), newer.objects), tmp_path / "newer.kup")
    updates.apply(tmp_path / "newer.kup", wait=60)
    assert answer(kernel) == 102
    assert [row.name for row in updates] == ["v101"]
    write_update(Update(replace(newer.manifest, supersedes=("*",)), newer.objects), tmp_path / "all.kup")
    updates.apply(tmp_path / "all.kup", wait=60)
    assert [row.name for row in updates] == ["v102"]
    assert updates.file("v102") == (tmp_path / "all.kup").read_bytes()
    empty(kernel)
    assert answer(kernel) == 2
    beat(kernel)


# ---- state that is carried over ---------------------------------------------------------------------


def told(kernel: Kernel, pattern: str) -> str:
    """Return what the new code says next of the list."""
    return kernel.log.wait(f"^kgp: {pattern}", since=kernel.log.position(), deadline=60).message


@pytest.mark.parametrize(
    "profile",
    [
        pytest.param("darwin", marks=pytest.mark.kernel("darwin")),
        pytest.param("linux", marks=[pytest.mark.kernel("linux"), pytest.mark.linux]),
    ],
)
@pytest.mark.timeout(1200)
@pytest.mark.long
def test_ten_thousand_live_objects_grow_a_field_and_shrink_again(
    kernel: Kernel, profile: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """One update makes the list, which running code turns and sums up; another one's objects are larger."""
    tree = request.getfixturevalue(f"{profile}_tree")
    folder = PATCHES / ("darwin" if profile == "darwin" else "")
    first, second = (built(folder / f"{name}.patch", tree, tmp_path) for name in ("objects", "objects_grown"))
    updates = kernel.updates
    updates.apply(first, accept=["all"], wait=60)
    if profile == "linux":
        kernel.send("getppid 600000\n")
    before = told(kernel, "10000 items, sum .{8}$")
    for _ in range(2):
        updates.apply(second, accept=["all"], wait=60)
        grown = told(kernel, r".*[1-9]\d* uses")
        assert grown.startswith(before + ", ")
        with pytest.raises(Refused, match="uses what the update 'objects' has"):
            updates.remove("objects")
        updates.remove("objects_grown", wait=60)
        assert told(kernel, ".*sum .{8}$") == before
    updates.remove("objects", wait=60)
    if profile == "linux":
        kernel.log.wait("^done getppid", since=0, deadline=300)
    beat(kernel)
    empty(kernel)
