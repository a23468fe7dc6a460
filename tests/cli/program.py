"""A program with a reservation and a tail call, for commands that need no guest."""

from __future__ import annotations

__all__ = ["SOURCE"]

SOURCE = """
    .text
    .globl _start, take, give
    .type take, @function
_start:
take:
    addi r3, r3, 1
1:  lwarx r5, 0, r4
    add r5, r5, r3
    stwcx. r5, 0, r4
    bne- 1b
    b give
    .size take, . - take
    .type give, @function
give:
    lwz r3, 0(r4)
here:
    li r4, 0
    blr
    .size give, . - give
"""
