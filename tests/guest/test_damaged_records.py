"""Something else writes where patches are: what of them can still be taken out, and what is told."""

from __future__ import annotations

import pytest

from kgdbpatch.cli.main import run
from kgdbpatch.component import layout
from kgdbpatch.component.arena import field_offset
from kgdbpatch.errors import Refused
from kgdbpatch.kernel import Kernel

from .parts import arena, client, write
from .work import beat, empty

SITES = ["run_netisr", "panic", "log_flush"]
IDLE = SITES[1]  # nobody comes here: what stands there harms nobody
JUNK = 0x7FE0_0008


@pytest.fixture
def quiet(kernel: Kernel) -> Kernel:
    """A guest that stands still: nothing runs into the junk."""
    kernel.pause()
    return kernel


@pytest.mark.parametrize("via", ["auto", "trap"])
def test_one_damaged_patch_keeps_no_other_in(quiet: Kernel, via: str) -> None:
    ids = [quiet.patch(site, count=True, via=via).id for site in SITES]
    write(quiet, IDLE, JUNK)
    assert [patch.state for patch in quiet.patches] == ["active", "damaged", "active"]
    with pytest.raises(Refused) as refused:
        quiet.remove_all()
    assert refused.value.rule == "expected"
    assert f"patch {ids[1]} is damaged" in str(refused.value)
    assert refused.value.address == quiet.resolve(IDLE)
    assert [(patch.id, patch.state) for patch in quiet.patches] == [(ids[1], "damaged")]
    assert quiet.verify().mismatched == (quiet.resolve(IDLE),)
    with pytest.raises(Refused, match="--force"):
        quiet.remove(ids[1])
    assert quiet.remove(ids[1], force=True) == []
    assert quiet.patches == []
    assert quiet.words(quiet.resolve(IDLE), 1)[0] == JUNK
    write(quiet, IDLE, int.from_bytes(quiet.image.read(quiet.resolve(IDLE), 4), "big"))
    quiet.resume()
    empty(quiet)
    beat(quiet)


def test_a_damaged_stack_of_patches(quiet: Kernel) -> None:
    kept = int(quiet.words(quiet.resolve(IDLE), 1)[0])
    for _ in range(3):
        quiet.patch(IDLE, count=True)
    write(quiet, IDLE, JUNK)
    assert {patch.state for patch in quiet.patches} == {"damaged"}
    done = quiet.take_out(None, force=True)
    assert [patch.state for patch in done.patches] == ["dropped"] * 3
    assert quiet.patches == []
    write(quiet, IDLE, kept)
    quiet.resume()
    empty(quiet)
    beat(quiet)


def test_the_command_line(quiet: Kernel, capfd: pytest.CaptureFixture[str]) -> None:
    ids = [quiet.patch(site, count=True).id for site in SITES]
    write(quiet, IDLE, JUNK)
    assert run(["remove", quiet.name, str(ids[1])]) == 3
    assert len(quiet.patches) == 3
    assert run(["remove", quiet.name, "--all"]) == 3
    said = capfd.readouterr()
    assert f"patch {ids[1]} is damaged" in said.err
    assert [patch.id for patch in quiet.patches] == [ids[1]]
    assert run(["remove", quiet.name, "--all", "--force"]) == 0
    assert "dropped" in capfd.readouterr().out
    assert quiet.patches == []


def test_a_removal_that_fails_says_what_is_out(quiet: Kernel) -> None:
    """The text changes after the removal was planned; a trap that should uncover an older one does not."""
    quiet.patch(SITES[0], count=True, via="trap")
    ids = [quiet.patch(SITES[0], count=True, via="trap").id]
    ids += [quiet.patch(site, count=True).id for site in SITES[1:]]
    before = quiet.patches
    header, table = quiet.header, arena(quiet).table()
    place = quiet.resolve(IDLE)
    write(quiet, IDLE, JUNK)
    with client(quiet) as component, pytest.raises(Refused) as refused:
        component.remove(header, table, set(ids))
    states = {patch.id: patch.state for patch in quiet.patches}
    out = [identity for identity in ids if states.get(identity) in (None, "retired")]
    assert refused.value.address == place
    told = f"out are {', '.join(map(str, out))}," if out else "nothing was changed"
    assert told in str(refused.value)
    assert len(out) < len(ids)
    write(
        quiet, IDLE, dict(zip(table.raw["site"].tolist(), table.raw["splice"].tolist(), strict=True))[place]
    )
    assert [patch.state for patch in quiet.patches if patch.id not in out] == ["active"] * (
        len(before) - len(out)
    )
    quiet.resume()
    beat(quiet)
    counts = {patch.id: patch.hits or 0 for patch in quiet.patches}
    beat(quiet, 2)
    assert all((patch.hits or 0) >= counts[patch.id] for patch in quiet.patches)
    assert any((patch.hits or 0) > counts[patch.id] for patch in quiet.patches)
    empty(quiet)


def test_ids_do_not_come_back_with_a_snapshot(kernel: Kernel) -> None:
    kernel.snapshot("before")
    with kernel.patch(SITES[0], count=True) as first:
        kernel.restore("before")
        assert kernel.patches == []
        second = kernel.patch(IDLE, count=True)
        assert second.id > first.id
    assert [patch.id for patch in kernel.patches] == [second.id]
    kernel.restore("before")
    assert kernel.patch(IDLE, count=True).id > second.id
    empty(kernel)


@pytest.mark.parametrize("field", ["version", "size", "near", "slots", "baseline_count", "image_sha256"])
def test_a_damaged_header(quiet: Kernel, field: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Something has run over the arena: each command says so, and none believes what stands there."""
    quiet.patch(IDLE, count=True)
    at = quiet.header.arena.physical + field_offset(field, layout.HEADER)
    kept = quiet.qemu.ram.read(at, 4)
    with quiet.stopped() as session:
        session.write_physical(at, b"\xff\x05\0\0")
    for command in (["list"], ["verify"], ["remove", "--all"], ["apply", IDLE, "--count"], ["check", IDLE]):
        name, *rest = command
        assert run([name, quiet.name, *rest]) == 4
        said = capfd.readouterr()
        assert said.out == ""
        (line,) = said.err.splitlines()
        assert quiet.name in line
        assert "kernel component" in line
    with quiet.stopped() as session:
        session.write_physical(at, kept)
    quiet.resume()
    empty(quiet)
    beat(quiet)
