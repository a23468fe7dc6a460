"""Barriers that a 7xx executes as sync are accepted in payloads of every kind and can be moved.

`tests/isa/test_cpu_judge.py` lets QEMU's 750 say that it does execute them, and that nothing changes.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kgdbpatch.isa.abi import SYSV
from kgdbpatch.isa.decode import Kind, decode
from kgdbpatch.patch.displace import displace
from kgdbpatch.patch.payload import asm_payload
from kgdbpatch.patch.site import Site
from kgdbpatch.toolchain.assemble import Engine, assemble
from kgdbpatch.toolchain.compile import compile_c, link
from kgdbpatch.toolchain.gnu import available

AT = 0x1500_0000
LWSYNC, SYNC, PTESYNC = 0x7C20_04AC, 0x7C00_04AC, 0x7C40_04AC
gnu = pytest.mark.skipif(not available("gcc"), reason="powerpc-linux-gnu-gcc is not installed")


@pytest.mark.parametrize("engine", [pytest.param("gnu", marks=gnu), "keystone"])
def test_payloads_in_assembler_may_hold_them(engine: Engine) -> None:
    source = f"lwsync\nsync 1\nsync 0\nsync\neieio\nisync\n.long {PTESYNC}\n"

    def words(at: int) -> list[int]:
        code = assemble(source, origin=at, symbols={}, filename="x.s", engine=engine)
        return [int.from_bytes(code[i : i + 4], "big") for i in range(0, len(code), 4)]

    assert words(AT) == [LWSYNC, LWSYNC, SYNC, SYNC, 0x7C00_06AC, 0x4C00_012C, PTESYNC]
    assert asm_payload(words, AT, SYSV).clobbers == 0


@gnu
@pytest.mark.parametrize("order", ["RELAXED", "ACQUIRE", "RELEASE", "ACQ_REL", "SEQ_CST"])
def test_payloads_in_c_may_use_every_memory_order(tmp_path: Path, order: str) -> None:
    source = tmp_path / "orders.c"
    plain = "RELEASE" if order == "ACQ_REL" else order
    source.write_text(
        f"""unsigned ticket, seen; char taken;
void orders(void) {{
    __atomic_fetch_add(&ticket, 1, __ATOMIC_{order});
    __atomic_exchange_n(&seen, ticket, __ATOMIC_{order});
    __atomic_clear(&taken, __ATOMIC_{"RELEASE" if "ACQ" in order else plain});
    __atomic_thread_fence(__ATOMIC_{order});
    __sync_lock_release(&ticket);
    __sync_synchronize();
}}
"""
    )
    linked = link(compile_c(source, entry="orders"), AT, dict[str, int]().__getitem__)
    words = [int.from_bytes(linked.code[i : i + 4], "big") for i in range(0, linked.text_size, 4)]
    assert LWSYNC in words
    assert {decode(word).kind for word in words} & {Kind.FOREIGN, Kind.UNKNOWN} == set()


@pytest.mark.parametrize("word", [LWSYNC, PTESYNC])
def test_they_are_moved_as_they_are(word: int) -> None:
    site = Site(decode(word, 0xC000_1000), frozenset(), frozenset(), SYSV)
    assert displace(site, 0xC010_0000)[0] == word
