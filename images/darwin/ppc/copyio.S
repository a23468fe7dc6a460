/* Move data between the kernel and a user process; a bad address ends in thread->recover. */
#include "asm.h"

        .text
        .p2align 2
/*
 * int copy_bytes(const void *from, void *to, size_t n, vm_offset_t *recover): one side is the
 * process's. While it runs, *recover says where a fault that nothing can resolve goes on.
 */
        .globl  _copy_bytes
_copy_bytes:
        lis     r7, Lcopy_failed@ha
        addi    r7, r7, Lcopy_failed@l
        stw     r7, 0(r6)
        cmpwi   r5, 0
        beq     Lcopy_done
        or      r8, r3, r4
        or      r8, r8, r5
        andi.   r8, r8, 3
        bne     Lcopy_bytes
        srwi    r8, r5, 2
        mtctr   r8
        addi    r3, r3, -4
        addi    r4, r4, -4
Lcopy_words:
        lwzu    r7, 4(r3)
        stwu    r7, 4(r4)
        bdnz    Lcopy_words
        b       Lcopy_done
Lcopy_bytes:
        mtctr   r5
        addi    r3, r3, -1
        addi    r4, r4, -1
Lcopy_one:
        lbzu    r7, 1(r3)
        stbu    r7, 1(r4)
        bdnz    Lcopy_one
Lcopy_done:
        li      r0, 0
        stw     r0, 0(r6)
        li      r3, 0
        blr
Lcopy_failed:
        li      r3, 14                  /* EFAULT */
        blr

/* int copy_string(const char *from, char *to, size_t size, vm_offset_t *recover): with its final zero. */
        .globl  _copy_string
_copy_string:
        lis     r7, Lcopy_failed@ha
        addi    r7, r7, Lcopy_failed@l
        stw     r7, 0(r6)
        mtctr   r5
        addi    r3, r3, -1
        addi    r4, r4, -1
Lcopy_char:
        lbzu    r7, 1(r3)
        stbu    r7, 1(r4)
        cmpwi   r7, 0
        beq     Lcopy_done
        bdnz    Lcopy_char
        li      r0, 0
        stw     r0, 0(r6)
        li      r3, 63                  /* ENAMETOOLONG */
        blr
