"""Registers that code passes on outside the convention: static chains, cold halves, own helpers."""

from __future__ import annotations

from pathlib import Path

from kgdbpatch.kernel import offline

from .code import link, needs_as

pytestmark = needs_as

FRAME = "stwu r1,-16(r1)\n mflr r0\n stw r0,20(r1)"
LEAVE = "lwz r0,20(r1)\n mtlr r0\n addi r1,r1,16\n blr"


def _free(source: str, place: Path, site: int) -> set[str]:
    """Return what is free at a word of the function f."""
    image = link(f" .globl f\n .type f,@function\n{source}\n", place)
    return set(offline.site_checker(image).live(image.lookup("f") + 4 * site).free)


def test_the_static_chain_of_a_nested_function_is_live_though_read_late(tmp_path: Path) -> None:
    nested = f"cmpwi r3,0\n beqlr\n {FRAME}\n lwz r9,8(r11)\n add r3,r3,r9\n bl g\n {LEAVE}"
    source = f"""
f: {FRAME}
    addi r11,r1,8
    bl nested
    {LEAVE}
    .size f,.-f
    .type nested,@function
nested: {nested}
    .size nested,.-nested
    .type g,@function
g: li r3,1
    blr
    .size g,.-g"""
    free = _free(source, tmp_path, 4)
    assert "r11" not in free
    assert {"r9", "r8"} <= free


def test_a_register_stored_elsewhere_after_it_was_saved_is_read(tmp_path: Path) -> None:
    """As ``__builtin_setjmp`` keeps the frame pointer in its buffer, in a later block of the function."""
    keeper = "stw r31,12(r1)\n bcl 20,31,1f\n1: mflr r30\n stw r31,0(r3)\n li r31,0\n lwz r31,12(r1)"
    source = f"""
f: {FRAME}
    li r31,5
    mr r9,r8
    bl keeper
    li r31,6
    {LEAVE}
    .size f,.-f
    .type keeper,@function
keeper: {FRAME}
    {keeper}
    {LEAVE}
    .size keeper,.-keeper"""
    free = _free(source, tmp_path, 5)
    assert "r31" not in free
    assert "r9" in free


def test_a_cold_half_with_a_frame_has_the_registers_of_the_other(tmp_path: Path) -> None:
    """The half that is jumped to makes its frame, and looks at r12 in its second block only."""
    source = f"""
f: cmpwi r3,0
    lwz r12,0(r4)
    bne away
    li r3,0
    blr
    .size f,.-f
    .type away,@function
away: {FRAME}
    cmpwi r5,0
    beq 1f
    add r3,r3,r12
1:  bl g
    {LEAVE}
    .size away,.-away
    .type g,@function
g: {FRAME}
    li r3,1
    {LEAVE}
    .size g,.-g"""
    assert "r12" not in _free(source, tmp_path, 2)


def test_an_assembler_helper_may_look_at_all_of_cr(tmp_path: Path) -> None:
    source = f"""
f: {FRAME}
    cmpwi cr5,r3,0
    bl helper
    {LEAVE}
    .size f,.-f
    .type helper,@function
helper: mfcr r3
    blr
    .size helper,.-helper"""
    assert "cr5" not in _free(source, tmp_path, 4)
