"""Functions of modules are patched while they are loaded and unloaded, in a kernel as distributions do."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from contextlib import suppress

import pytest

from kgdbpatch.errors import KgdbPatchError, Misuse, Refused, TargetTimeout
from kgdbpatch.image.spelling import read
from kgdbpatch.kernel import Kernel, Patch, catalog
from kgdbpatch.patch.request import PatchRequest
from kgdbpatch.results import PatchState

from .test_modules import obeyed

pytestmark = [pytest.mark.kernel("linux"), pytest.mark.linux, pytest.mark.soak]

PROGRAM = [sys.executable, "-c", "from kgdbpatch.cli import main; main()"]
COUNT = PatchRequest(count=True)
ROUNDS = 20
TOLD = re.compile(r"counter: (\d+) calls")


def states(kernel: Kernel) -> dict[int, PatchState]:
    return {row.id: row.state for row in kernel.patch_table()}


def program(*arguments: str, code: int = 0) -> list[dict[str, object]]:
    """Run the command line; return the objects that it prints."""
    done = subprocess.run([*PROGRAM, *arguments, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def wait_for_hits(kernel: Kernel, patch: Patch, least: int) -> None:
    """Have the guest do something until a patch was hit so often; a busy host gives it few clock ticks."""
    while (patch.hits or 0) < least:
        obeyed(kernel, "read /sys/module/counter/parameters/calls")


@pytest.fixture(autouse=True)
def nothing_loaded(kernel: Kernel) -> object:
    yield
    for module in kernel.modules():
        obeyed(kernel, f"rmmod {module.name}")
    kernel.remove_all()


def test_a_module_is_asked_together_with_its_kernel(kernel: Kernel) -> None:
    own = [function.address for function in kernel.functions("udp_*") if function.section == ".text"]
    before = [kernel.live(address) for address in own]
    obeyed(kernel, "insmod /lib/counter.ko")
    (tick,) = program("functions", kernel.name, "counter_tick")
    assert tick["section"] == "counter,.text"
    site = kernel.resolve("counter_tick+0xc [counter]")
    assert site == kernel.resolve("counter:counter_tick+0xc") == kernel.resolve("counter_tick+0xc")
    spelt = kernel.image.symbolize(site)
    assert read(spelt) is not None
    assert kernel.resolve(spelt) == site
    assert {name.name for name in kernel.functions("counter:*")} >= {"counter_tick", "tick"}
    (found,) = program("live", kernel.name, "counter:counter_tick")
    assert all(f'"{name}"' in json.dumps(found["live"]) for name in ("r1", "r3", "lr"))  # its argument, too
    (graph,) = program("cfg", kernel.name, "tick [counter]")
    assert json.dumps(graph).count("mod_timer") >= 1
    assert [kernel.live(address) for address in own] == before
    image = catalog.open_image(kernel.name)
    assert image.sha256 == kernel.header.image_sha256
    with pytest.raises(Misuse, match="not loaded"):
        kernel.resolve("run [sized]")


def test_hits_are_the_modules_own_count(kernel: Kernel) -> None:
    """From one stop to the module's end both counters go on by the same number."""
    obeyed(kernel, "insmod /lib/counter.ko")
    patch = kernel.patch("counter:counter_tick+0xc", COUNT)
    (warning,) = patch.warnings
    assert "'counter'" in warning
    place = kernel.image.lookup("calls")
    wait_for_hits(kernel, patch, 1)
    kernel.pause()
    calls, hits = int.from_bytes(kernel.read_virtual(place, 4), "big"), patch.hits
    kernel.resume()
    assert hits is not None
    wait_for_hits(kernel, patch, hits + 10)
    said = obeyed(kernel, "rmmod counter")
    total = int(next(match[1] for line in said if (match := TOLD.search(line))))
    assert patch.hits is not None
    assert patch.hits - hits == total - calls >= 10
    assert patch.state is PatchState.UNLOADED


@pytest.mark.parametrize("via", ["auto", "trap"])
def test_unloaded_with_its_patch_and_loaded_again(kernel: Kernel, via: str) -> None:
    """The old patch is named as gone, gives its memory back, and has nothing to do with the new load."""
    obeyed(kernel, "insmod /lib/counter.ko")
    old = [kernel.patch(f"counter:{where}", count=True, via=via) for where in ("counter_tick+0xc", "tick")]
    under = kernel.patch("counter:counter_tick+0xc", count=True)  # a second one at the first's site
    places = [record.site_physical for record in kernel.records()]
    used = kernel.arena_used
    obeyed(kernel, "rmmod counter")
    assert set(states(kernel).values()) == {PatchState.UNLOADED}
    assert {row.module for row in kernel.patch_table()} == {"counter"}
    found = kernel.verify()
    assert found.ok
    assert found.patched == 0
    assert {row.id for row in found.unloaded} == {patch.id for patch in (*old, under)}
    with pytest.raises(Misuse):
        kernel.patch("counter:counter_tick", COUNT)

    obeyed(kernel, "insmod /lib/counter.ko")
    assert set(states(kernel).values()) == {PatchState.UNLOADED}
    new = kernel.patch("counter:counter_tick+0xc", count=True, via=via)
    assert states(kernel)[new.id] is PatchState.ACTIVE
    kernel.pause()
    before = [kernel.qemu.ram.read(at & -4096, 4096) for at in places]
    gone = kernel.take_out([patch.id for patch in (*old, under)])
    assert [row.state for row in gone.patches] == [PatchState.REMOVED] * 3
    assert [kernel.qemu.ram.read(at & -4096, 4096) for at in places] == before
    kernel.resume()
    assert kernel.arena_used < used
    wait_for_hits(kernel, new, (new.hits or 0) + 10)
    new.remove()
    assert kernel.patch_table() == []
    assert kernel.verify().ok


def test_a_payload_rests_on_no_module(kernel: Kernel) -> None:
    obeyed(kernel, "insmod /lib/counter.ko")
    for request in (
        PatchRequest(call="counter:counter_tick"),
        PatchRequest(asm="lis 3, counter_tick@ha"),
        PatchRequest(c="extern unsigned long counter_tick(); void probe(void) { counter_tick(); }"),
    ):
        with pytest.raises(Refused, match=r"counter_tick \[counter\]") as refused:
            kernel.patch("udp_sendmsg", request)
        assert refused.value.rule == "module"


def test_c_code_runs_in_a_module(kernel: Kernel) -> None:
    obeyed(kernel, "insmod /lib/counter.ko")
    source = """int _printk(const char *, ...);
    void probe(unsigned long at) { if (at % 64 == 0) _printk("at %lu\\n", at); }"""
    position = kernel.log.position()
    with kernel.patch("counter:counter_tick", c=source):
        kernel.log.wait(r"^at \d+$", since=position, deadline=120)
        lines = [line.message for line in kernel.log.lines(since=position)]
        numbers = [int(line.split()[1]) for line in lines if line.startswith("at ")]
    assert numbers == list(range(numbers[0], numbers[0] + 64 * len(numbers), 64))


def test_patched_while_it_comes_and_goes(kernel: Kernel) -> None:
    """Whenever the module goes, a patch is in or is refused; nothing of the guest's is lost."""
    own = kernel.patch_all([f.address for f in kernel.functions("udp_*") if f.section == ".text"], COUNT)
    wrong: list[BaseException] = []
    done = threading.Event()
    applied = 0

    def patch() -> None:
        nonlocal applied
        try:
            with_another = Kernel.attach(kernel.name)
            while not done.is_set():
                try:
                    with_another.patch_all(
                        [f.address + 12 for f in with_another.functions("counter:*")], COUNT
                    )
                    applied += 1
                except (Misuse, Refused, TargetTimeout):  # it is not loaded, or went meanwhile
                    pass
                ours = {one.id for one in own.patches}
                with suppress(Misuse):
                    with_another.take_out([p for p in states(with_another) if p not in ours])
            with_another.close()
        except BaseException as error:  # told by the test itself
            wrong.append(error)

    thread = threading.Thread(target=patch)
    thread.start()
    for _ in range(ROUNDS):
        obeyed(kernel, "insmod /lib/counter.ko")
        obeyed(kernel, "rmmod counter")
    done.set()
    thread.join()
    assert wrong == []
    assert applied > 0
    ours = {one.id for one in own.patches}
    with suppress(KgdbPatchError):
        kernel.take_out([one for one in states(kernel) if one not in ours])
    assert states(kernel) == dict.fromkeys(ours, PatchState.ACTIVE)
    assert kernel.verify().ok
    position = kernel.log.position()
    assert kernel.log.wait(r"selfcheck: \d+ ok, 0 bad", since=position, deadline=60)
