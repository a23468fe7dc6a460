"""A CPU's family is found by its PVR and its registers; QEMU's own CPUs say which those are."""

from __future__ import annotations

import os
import re
import shutil
import struct
import sys
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest
from component.fake import FakeMachine

from kgdbpatch import cpu
from kgdbpatch.component.ports import Cpu
from kgdbpatch.cpu.booke import E500, Ppc440
from kgdbpatch.cpu.ppc6xx import Ppc6xx
from kgdbpatch.cpu.ppc405 import Ppc405
from kgdbpatch.cpu.pvr import described
from kgdbpatch.errors import Misuse, Refused
from kgdbpatch.kernel import family
from kgdbpatch.vm.gdb import Debugger
from kgdbpatch.vm.machine import MachineDescription
from kgdbpatch.vm.qemu import Qemu
from kgdbpatch.vm.registers import GENERAL, GRegisters, Layout

_MISSING = [tool for tool in ("qemu-system-ppc", "gdb-multiarch") if shutil.which(tool) is None]
needs_qemu = pytest.mark.skipif(
    bool(_MISSING) and not os.environ.get("CI"), reason=f"not installed: {', '.join(_MISSING)}"
)


def layout(*names: str, pvr: int = 0x0008_3000) -> Layout:
    return Layout({name: (number, 0, 4) for number, name in enumerate(names)}, pvr)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ELF file with one instruction: some boards want firmware or a kernel."""
    path = tmp_path_factory.mktemp("program") / "kernel"
    header = struct.pack(
        ">4s5B7x2H5I6H", b"\x7fELF", 1, 2, 1, 0, 0, 2, 20, 1, 0x1000, 52, 0, 0, 52, 32, 1, 0, 0, 0
    )
    path.write_bytes(header + struct.pack(">8I", 1, 84, 0x1000, 0x1000, 4, 4, 5, 4) + b"\x48\0\0\0")
    return path


def started(machine: str, model: str, program: Path, binary: str = "qemu-system-ppc") -> Qemu:
    """Start a QEMU whose CPU stands still."""
    board = replace(
        MachineDescription.load("g3beige"),
        machine=machine,
        cpu=model,
        architecture="powerpc:common",
        binary=binary,
    )
    return Qemu.start(f"cpu-{model}", board, 128, ["-S", "-kernel", str(program)])


@pytest.mark.guest
@needs_qemu
@pytest.mark.parametrize(
    ("machine", "model", "altivec"),
    [
        ("g3beige", "750", False),
        ("mac99", "7400", True),
        ("g3beige", "604", False),
        pytest.param("mac99", "7455", True, marks=pytest.mark.soak),
        pytest.param("g3beige", "603e", False, marks=pytest.mark.soak),
        pytest.param("g3beige", "750cl", False, marks=pytest.mark.soak),
    ],
)
def test_a_cpu_of_the_6xx_family_is_known(
    runtime: None, program: Path, machine: str, model: str, altivec: bool
) -> None:
    with started(machine, model, program) as qemu:
        assert family.noted(qemu.directory) == Ppc6xx()  # nothing is known yet: the first family
        with Debugger(qemu) as debugger:
            found = family.found(qemu, lambda: debugger, 10)
            assert found == Ppc6xx(altivec=altivec)
            with debugger.stopped() as session:
                found.check(session)
        assert family.noted(qemu.directory) == found

        def nobody() -> Debugger:
            raise AssertionError("what is known was asked again")

        assert family.found(qemu, nobody, 10) == found


@pytest.mark.guest
@needs_qemu
@pytest.mark.parametrize(
    ("machine", "model", "expected"),
    [
        ("ppce500", "e500v2_v30", E500()),
        ("g3beige", "750", Ppc6xx()),
        pytest.param("ppce500", "e500v1", E500(), marks=pytest.mark.soak),
        pytest.param("mac99", "7400", Ppc6xx(altivec=True), marks=pytest.mark.soak),
    ],
)
def test_a_cpu_of_32_bits_is_known_where_registers_are_shown_with_64(
    runtime: None, program: Path, machine: str, model: str, expected: Cpu
) -> None:
    """The program for 64-bit CPUs runs these, too; what it says of their registers is of its own width."""
    with started(machine, model, program, "qemu-system-ppc64") as qemu, Debugger(qemu) as debugger:
        assert family.found(qemu, lambda: debugger, 10) == expected
        with debugger.stopped() as session:
            expected.check(session)
            before = GRegisters(session.read_all())
            written = GRegisters(before.raw)
            for number, name in enumerate(GENERAL):
                if name not in ("msr", "pc", "xer"):  # of the last, QEMU 7.2 shows debuggers no flags
                    written[name] = 0x1357_9BDF + number
            session.write_all(written.raw)
            assert GRegisters(session.read_all()).as_dict() == written.as_dict()
            session.set_register("srr1", 0xFEDC_BA98)
            assert session.register("srr1") == 0xFEDC_BA98
            session.write_all(before.raw)


@pytest.mark.guest
@needs_qemu
@pytest.mark.parametrize(
    ("machine", "model"),
    [
        ("bamboo", "440epb"),
        ("bamboo", "440-xilinx"),
        pytest.param("bamboo", "440epx", marks=pytest.mark.soak),
    ],
)
def test_a_cpu_with_a_440s_core_is_known(runtime: None, program: Path, machine: str, model: str) -> None:
    with started(machine, model, program) as qemu, Debugger(qemu) as debugger:
        assert family.found(qemu, lambda: debugger, 10) == Ppc440()
        with debugger.stopped() as session:  # whether it has an FPU or not, which changes their numbers
            told = re.search(r"PVR (\w+)", qemu.hmp("info registers"))
            assert told
            assert session.register("pvr") == int(told[1], 16) == session.layout.pvr


@pytest.mark.guest
@needs_qemu
def test_a_405_is_known(runtime: None, program: Path) -> None:
    with started("ref405ep", "405ep", program) as qemu, Debugger(qemu) as debugger:
        assert family.found(qemu, lambda: debugger, 10) == Ppc405()
        with debugger.stopped() as session:
            assert described(session.layout.pvr) == "PVR 0x51210950, 405EP"


@pytest.mark.guest
@needs_qemu
@pytest.mark.parametrize(
    ("machine", "model"),
    [
        ("mac99", "970"),
        *(pytest.param("ppce500", model, marks=pytest.mark.soak) for model in ("e5500", "e6500")),
    ],
)
def test_a_cpu_of_64_bits_is_refused(runtime: None, program: Path, machine: str, model: str) -> None:
    with started(machine, model, program, "qemu-system-ppc64") as qemu, Debugger(qemu) as debugger:
        with pytest.raises(Refused, match="has registers of 64 bits") as refused, debugger.stopped():
            pass
        assert refused.value.rule == "cpu"


@pytest.mark.guest
@needs_qemu
@pytest.mark.parametrize(
    ("machine", "model", "name"),
    [
        ("ppce500", "e500mc", "PVR 0x80230020, e500mc"),
    ],
)
def test_a_cpu_of_no_family_is_refused_by_its_name(
    runtime: None, program: Path, machine: str, model: str, name: str
) -> None:
    with started(machine, model, program) as qemu:
        debugger = Debugger(qemu)
        with pytest.raises(
            Refused, match=rf"^this CPU \({name}\) is of no family .* ppc6xx, e500, 440, 405$"
        ) as refused:
            family.found(qemu, lambda: debugger, 10)
        assert (refused.value.rule, refused.value.exit_code) == ("cpu", 3)
        with pytest.raises(ProcessLookupError):  # it left no GDB behind
            os.kill(debugger.gdb_pid, 0)


def test_registers_decide_and_where_they_do_not_the_pvr() -> None:
    plain = ("ibat0u", "dbat0u", "sdr1")
    assert cpu.find(layout(*plain)) == Ppc6xx()
    assert cpu.find(layout(*plain, "vscr", pvr=0x800C_1101)) == Ppc6xx(altivec=True)
    for name in plain:
        with pytest.raises(Refused, match="PVR 0x00083000, 750"):
            cpu.find(layout(*(other for other in plain if other != name)))
    with pytest.raises(Refused, match=r"PVR 0x00010001, 601\)"):
        cpu.find(layout(*plain, pvr=0x0001_0001))


def test_a_kernel_that_uses_more_bats_than_can_be_looked_after_is_refused() -> None:
    machine = FakeMachine(0x10000)
    machine.layout = layout("ibat0u", "dbat0u", "sdr1", "ibat4u", "dbat7u", pvr=0x8002_0102)
    machine.special |= {"ibat4u": 0, "dbat7u": 0xC000_0000}
    Ppc6xx().check(machine)
    machine.special["dbat7u"] |= 2
    with pytest.raises(Refused, match="the kernel uses dbat7u") as refused:
        Ppc6xx().check(machine)
    assert refused.value.rule == "mapping"


def test_a_file_tells_the_family_where_nothing_runs() -> None:
    assert cpu.of_model("") == Ppc6xx()
    assert cpu.of_model("7450") == Ppc6xx(altivec=True)
    assert cpu.of_model("e500") == E500()
    assert cpu.of_model("440") == Ppc440()
    assert cpu.of_model("405") == Ppc405()
    assert cpu.of_model("476") == cpu.of_model("")  # none of its own: as a file that names no model


def installed(place: Path, module: str, code: str) -> None:
    """Install a distribution that registers ``module:Family``."""
    (place / f"{module}.py").write_text(dedent(code))
    known = place / f"{module}-1.dist-info"
    known.mkdir()
    (known / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1\n")
    (known / "entry_points.txt").write_text(f"[kgdbpatch.cpus]\nmine = {module}:Family\n")


def test_an_installed_package_brings_a_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    code = """
        class Family:
            @staticmethod
            def of(layout):
                return "ours" if "ivpr" in layout.places else None

            @staticmethod
            def of_model(model):
                return "ours" if model == "476" else None
        """
    installed(tmp_path, "own_family", code)
    assert str(cpu.find(layout("ivpr", pvr=0x8021_0030))) == "ours"
    assert str(cpu.of_model("476")) == "ours"
    assert cpu.find(layout("ibat0u", "dbat0u", "sdr1")) == Ppc6xx()
    with pytest.raises(Refused, match=r"PVR 0x00500000, 8xx.*ppc6xx, e500, 440, 405, mine$"):
        cpu.find(layout("sdr1", pvr=0x0050_0000))


def test_an_installed_family_that_is_broken_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    installed(tmp_path, "broken_family", "raise ImportError('what it needs is not there')")
    with pytest.raises(Misuse, match=r"family 'mine' \(broken_family:Family\) is broken: what it needs"):
        cpu.find(layout("ivpr"))
