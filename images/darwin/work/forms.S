/* Forms of code that a compiler makes seldom or never: see forms.c for what each must give. */
#include "asm.h"

        .text
        .p2align 2
/*
 * unsigned red_zone_mix(const unsigned *words, unsigned rounds): a leaf without a frame. Keeps 56
 * words in the 224 bytes below r1, mixes them there for `rounds`, gives their weighted sum.
 */
        .globl  _red_zone_mix
_red_zone_mix:
        li      r5, RED_ZONE / 4
        mtctr   r5
        addi    r6, r1, -RED_ZONE - 4
        addi    r3, r3, -4
Lred_fill:
        lwzu    r7, 4(r3)
        stwu    r7, 4(r6)
        bdnz    Lred_fill
Lred_round:
        cmpwi   r4, 0
        addi    r4, r4, -1
        beq     Lred_sum
        li      r5, RED_ZONE / 4 - 1
        mtctr   r5
        addi    r6, r1, -RED_ZONE
        lwz     r7, 0(r6)
Lred_mix:
        lwz     r8, 4(r6)
        rotlwi  r7, r7, 5
        add     r7, r7, r8
        stwu    r7, 4(r6)
        bdnz    Lred_mix
        stw     r7, -RED_ZONE(r1)
        b       Lred_round
Lred_sum:
        li      r5, RED_ZONE / 4
        mtctr   r5
        addi    r6, r1, -RED_ZONE - 4
        li      r3, 0
        li      r5, 1
Lred_add:
        lwzu    r7, 4(r6)
        mullw   r7, r7, r5
        addi    r5, r5, 2
        add     r3, r3, r7
        bdnz    Lred_add
        blr

/* unsigned red_zone_digits(unsigned n): decimal digits by way of bytes below r1; packed, four bits each. */
        .globl  _red_zone_digits
_red_zone_digits:
        li      r5, 10
        li      r6, 0
Ldigit_next:
        divwu   r7, r3, r5
        mullw   r8, r7, r5
        subf    r8, r8, r3
        addi    r9, r1, -16
        stbx    r8, r9, r6
        addi    r6, r6, 1
        mr.     r3, r7
        bne     Ldigit_next
        mtctr   r6
        li      r3, 0
        addi    r9, r1, -16
Ldigit_pack:
        addi    r6, r6, -1
        lbzx    r8, r9, r6
        slwi    r3, r3, 4
        or      r3, r3, r8
        bdnz    Ldigit_pack
        blr

/* void string_move(void *to, const void *from, unsigned n): 0 to 32 bytes, by lswx and stswx. */
        .globl  _string_move
_string_move:
        mtxer   r5
        lswx    r5, 0, r4
        stswx   r5, 0, r3
        li      r0, 0
        mtxer   r0
        blr

/* void string_move_far(void *to, const void *from, unsigned n, unsigned offset): the same, both at an offset. */
        .globl  _string_move_far
_string_move_far:
        mtxer   r5
        mr      r0, r2                  /* r5 to r12 are loaded, neither base nor index may be among them */
        mr      r2, r6
        lswx    r5, r4, r2
        stswx   r5, r3, r2
        mr      r2, r0
        li      r0, 0
        mtxer   r0
        blr

/* void string_move_20(void *to, const void *from): 20 bytes by lswi and stswi. */
        .globl  _string_move_20
_string_move_20:
        lswi    r5, r4, 20
        stswi   r5, r3, 20
        blr

/* unsigned string_hash(const unsigned char *text, unsigned n): text of up to 16 bytes, padded by lswx. */
        .globl  _string_hash
_string_hash:
        li      r5, 0
        li      r6, 0
        li      r7, 0
        li      r8, 0
        mtxer   r4
        lswx    r5, 0, r3
        rotlwi  r6, r6, 7
        rotlwi  r7, r7, 14
        rotlwi  r8, r8, 21
        xor     r3, r5, r6
        xor     r7, r7, r8
        add     r3, r3, r7
        li      r0, 0
        mtxer   r0
        blr

/* void many_move(unsigned *to, const unsigned *from, unsigned times): 19 words at a time by lmw and stmw. */
        .globl  _many_move
_many_move:
        stwu    r1, -96(r1)
        stmw    r13, 16(r1)
        mtctr   r5
Lmany_next:
        lmw     r13, 0(r4)
        addi    r4, r4, 76
        stmw    r13, 0(r3)
        addi    r3, r3, 76
        bdnz    Lmany_next
        lmw     r13, 16(r1)
        addi    r1, r1, 96
        blr

/* unsigned many_sum(const unsigned *from): the alternating sum of six words, loaded by one lmw. */
        .globl  _many_sum
_many_sum:
        stmw    r26, -24(r1)            /* below r1: a leaf may */
        lmw     r26, 0(r3)
        subf    r26, r27, r26
        subf    r28, r29, r28
        subf    r30, r31, r30
        add     r3, r26, r28
        add     r3, r3, r30
        lmw     r26, -24(r1)
        blr

/* unsigned pic_entry(unsigned n): word n of a table that is found by way of the program counter. */
        .globl  _pic_entry
_pic_entry:
        mflr    r0
        bcl     20, 31, Lpic_here
Lpic_here:
        mflr    r4
        mtlr    r0
        addis   r4, r4, (Lpic_table - Lpic_here)@ha
        addi    r4, r4, (Lpic_table - Lpic_here)@l
        clrlslwi r3, r3, 29, 2
        lwzx    r3, r4, r3
        blr

/* unsigned pic_distance(void): how far the code after it is from the symbol; bcl 20,31,.+4 itself. */
        .globl  _pic_distance
_pic_distance:
        mflr    r0
        bcl     20, 31, .+4
        mflr    r3
        lis     r4, _pic_distance@ha
        addi    r4, r4, _pic_distance@l
        subf    r3, r4, r3
        mtlr    r0
        blr

/* unsigned dispatch(unsigned operation, unsigned a, unsigned b): pieces that only bctr leads to. */
        .globl  _dispatch
_dispatch:
        clrlslwi r3, r3, 29, 2
        lis     r6, Ldispatch_table@ha
        addi    r6, r6, Ldispatch_table@l
        lwzx    r6, r6, r3
        mtctr   r6
        bctr
Ldispatch_add:
        add     r3, r4, r5
        blr
Ldispatch_subtract:
        subf    r3, r5, r4
        blr
Ldispatch_multiply:
        mullw   r3, r4, r5
        blr
Ldispatch_nand:
        nand    r3, r4, r5
        blr
Ldispatch_rotate:
        rotlw   r3, r4, r5
        blr
Ldispatch_maximum:
        cmplw   cr6, r4, r5
        mr      r3, r4
        bgelr   cr6
        mr      r3, r5
        blr
Ldispatch_count:
        eqv     r3, r4, r5
        cntlzw  r3, r3
        blr
Ldispatch_gcd:                          /* goes on elsewhere: a tail call of a tail call */
        mr      r3, r4
        mr      r4, r5
        b       _euclid

/*
 * unsigned machine_run(const unsigned char *program, unsigned a): an interpreter whose pieces jump
 * to each other through CTR, each by its own bctr ("threaded code").
 */
        .globl  _machine_run
_machine_run:
        mr      r5, r3
        mr      r3, r4
        lis     r6, Lmachine_table@ha
        addi    r6, r6, Lmachine_table@l
        addi    r5, r5, -1
        .macro  next
        lbzu    r7, 1(r5)
        slwi    r7, r7, 2
        lwzx    r7, r6, r7
        mtctr   r7
        bctr
        .endm
        next
Lmachine_double:
        add     r3, r3, r3
        next
Lmachine_increment:
        addi    r3, r3, 1
        next
Lmachine_invert:
        not     r3, r3
        next
Lmachine_square:
        mullw   r3, r3, r3
        next
Lmachine_swap:
        rotlwi  r3, r3, 16
        next
Lmachine_end:
        blr

/* unsigned euclid(unsigned a, unsigned b): the greatest common divisor. */
        .globl  _euclid
_euclid:
        cmpwi   r4, 0
        beqlr
        divwu   r5, r3, r4
        mullw   r5, r5, r4
        subf    r5, r5, r3
        mr      r3, r4
        mr      r4, r5
        b       _euclid

/* unsigned tail_table(unsigned which, unsigned a, unsigned b): goes on in a function of C through CTR. */
        .globl  _tail_table
_tail_table:
        clrlslwi r3, r3, 30, 2
        lis     r6, _tail_functions@ha
        addi    r6, r6, _tail_functions@l
        lwzx    r12, r6, r3
        mr      r3, r4
        mr      r4, r5
        mtctr   r12
        bctr

/* unsigned condition_mix(unsigned a, unsigned b): condition fields combined bit by bit. */
        .globl  _condition_mix
_condition_mix:
        mfcr    r5
        cmpw    cr2, r3, r4
        cmplw   cr3, r3, r4
        cmpwi   cr5, r3, 0
        cmpwi   cr6, r4, 0
        crand   8, 8, 12                /* less, signed and unsigned */
        crorc   9, 13, 20               /* greater unsigned, or a not negative */
        crxor   10, 20, 24              /* signs differ */
        creqv   11, 22, 26              /* both zero or neither */
        mcrf    cr4, cr2
        mfcr    r3
        rlwinm  r3, r3, 20, 28, 31
        mtcrf   0x38, r5                /* cr2 to cr4 are the caller's */
        blr

        .section .rodata
        .p2align 2
Lpic_table:
        .long   2, 3, 5, 7, 11, 13, 17, 19
Ldispatch_table:
        .long   Ldispatch_add, Ldispatch_subtract, Ldispatch_multiply, Ldispatch_nand
        .long   Ldispatch_rotate, Ldispatch_maximum, Ldispatch_count, Ldispatch_gcd
Lmachine_table:
        .long   Lmachine_end, Lmachine_double, Lmachine_increment, Lmachine_invert
        .long   Lmachine_square, Lmachine_swap
