"""A kernel that uses AltiVec, on a 7400: all its instructions are patched, its results stay as they were."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from kgdbpatch.errors import Refused
from kgdbpatch.kernel import Kernel

OWN = Path(__file__).parents[2] / "examples" / "own_guest"
MIX = """
    .machine altivec
    .text
    .globl mix
    .type mix, @function
mix:                            /* r3: to, r4: from, two vectors */
    li 5, 16
    dst 4, 5, 0
    lvx 0, 0, 4
    lvxl 1, 5, 4
    lvsl 4, 0, 5
    vxor 9, 9, 9
    lvewx 9, 5, 4
    vaddubs 2, 0, 1
    vsldoi 3, 0, 1, 5
    vperm 5, 2, 3, 4
    vcmpgtub. 6, 2, 3
    vmsumuhm 7, 0, 1, 5
    vsel 8, 2, 7, 6
    vsubsws 8, 8, 9
    vcfsx 10, 8, 3
    vmaddfp 10, 10, 10, 10
    stvx 8, 0, 3
    stvx 10, 5, 3
    mfvscr 11
    li 5, 44
    stvewx 11, 5, 3
    mfvrsave 6
    mtvrsave 6
    mfcr 6
    rlwinm 6, 6, 0, 24, 27      /* cr6 */
    stw 6, 32(3)
    dss 0
    blr
    .size mix, . - mix
    .section .note.GNU-stack, "", @progbits
"""
WORDS = 28
CHECK = """
        static u32 from[8] __attribute__((aligned(16))) = {
            0x01f07fff, 0x80ff0102, 0x12345678, 0x9abcdef0, 0xfffe0003, 0x7f7f8080, 0x00000001, 0xdeadbeef};
        static u32 to[12] __attribute__((aligned(16))), first[12];
        mix(to, from);
        for (u32 i = 0; i < 12; i++) {
            if (!mixed)
                first[i] = to[i];
            if (first[i] != to[i]) {
                begin_line();
                text("panic: another result\\n");
                for (;;)
                    ;
            }
        }
        mixed++;
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The example's kernel with a function that uses AltiVec, which it has switched on."""
    folder = tmp_path / "vectors"
    shutil.copytree(OWN, folder, ignore=shutil.ignore_patterns("build"))

    def change(name: str, *changes: tuple[str, str]) -> None:
        text = (folder / name).read_text()
        for pattern, by in changes:
            text, count = re.subn(pattern, lambda _, by=by: by, text)  # type: ignore[misc]
            assert count, pattern
        (folder / name).write_text(text)

    change("start.S", (r"li 0, TRANSLATED", "lis 0, 0x200\n ori 0, 0, TRANSLATED"))
    change(
        "own.c",
        (r"0x9032", "0x02009032"),
        (r"int main\(void\)\n", "void mix(u32 *to, const u32 *from);\nstatic u32 mixed;\n\nint main(void)\n"),
        (r"        if \(ticks - told", CHECK + "        if (ticks - told"),
    )
    change("build.sh", (r"start\.S", "start.S mix.S"))
    change("own.toml", (r'machine = "g3beige"', 'machine = "g3beige"\ncpu = "7400"'))
    (folder / "mix.S").write_text(MIX)
    return folder / "own.toml"


@pytest.mark.soak
def test_every_instruction_is_displaced(own: Path) -> None:
    with Kernel.boot(own, "vectors") as kernel:
        places = [f"mix+0x{4 * number:x}" for number in range(WORDS)]
        texts = [kernel.live(place).instruction.split()[0] for place in places]
        assert texts[:4] == ["li", "dst", "lvx", "lvxl"]
        assert texts[-1] == "blr"
        found = kernel.live("mix+0x8")
        assert {"v0", "v31", "vscr", "vrsave"} <= set(found.live)
        assert not {"v0", "v31", "vscr", "vrsave"} & set(found.free)
        with pytest.raises(Refused) as refused:
            kernel.patch("mix+0x8", asm="vxor v12,v12,v12")
        assert refused.value.rule == "vector"
        assert kernel.patch_all(places, count=True).refused == ()
        kernel.patch("mix+0x24", asm="li 11, 7\n cmpwi cr6, 11, 8")
        for _ in range(2):
            kernel.log.wait("step", since=kernel.log.position())
        patches = kernel.patches
        assert len(patches) == WORDS + 1
        assert min(patch.hits or 0 for patch in patches[:WORDS]) > 100
        assert kernel.health.state == "running"
        while kernel.remove_all():
            kernel.log.wait("step", since=kernel.log.position())
        assert kernel.verify().ok
