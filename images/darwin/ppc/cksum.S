/* Sums that live in the carry, and small bit routines. */
        .text
        .p2align 2
/* unsigned in_cksum_words(const unsigned *p, unsigned words, unsigned sum): ones' complement, folded to 16 bits. */
        .globl  _in_cksum_words
_in_cksum_words:
        cmpwi   r4, 0
        addic   r5, r5, 0               /* carry clear */
        beq     Lcksum_done
        mtctr   r4
        addi    r3, r3, -4
Lcksum_word:
        lwzu    r6, 4(r3)
        adde    r5, r5, r6
        bdnz    Lcksum_word
Lcksum_done:
        addze   r5, r5
        srwi    r6, r5, 16
        rlwinm  r5, r5, 0, 16, 31
        add     r5, r5, r6
        srwi    r6, r5, 16
        add     r5, r5, r6
        rlwinm  r3, r5, 0, 16, 31
        blr

/* unsigned big_add(unsigned *sum, const unsigned *a, const unsigned *b, unsigned words): carry out.
   Numbers are little-endian by words. */
        .globl  _big_add
_big_add:
        cmpwi   r6, 0
        addic   r0, r6, 0
        li      r7, 0
        beq     Lbig_done
        mtctr   r6
Lbig_word:
        lwzx    r8, r4, r7
        lwzx    r9, r5, r7
        adde    r8, r8, r9
        stwx    r8, r3, r7
        addi    r7, r7, 4
        bdnz    Lbig_word
Lbig_done:
        li      r3, 0
        addze   r3, r3
        blr

/* unsigned big_sub(unsigned *difference, const unsigned *a, const unsigned *b, unsigned words): borrow. */
        .globl  _big_sub
_big_sub:
        li      r7, 0
        subfic  r0, r7, 0               /* carry set: no borrow yet */
        cmpwi   r6, 0
        beq     Lsub_done
        mtctr   r6
Lsub_word:
        lwzx    r8, r4, r7
        lwzx    r9, r5, r7
        subfe   r8, r9, r8
        stwx    r8, r3, r7
        addi    r7, r7, 4
        bdnz    Lsub_word
Lsub_done:
        subfe   r3, r3, r3
        neg     r3, r3
        blr

/* int ffsbit(unsigned word): number of the highest bit that is set (0 is the top), 32 for none. */
        .globl  _ffsbit
_ffsbit:
        cntlzw  r3, r3
        blr

/* unsigned rotl(unsigned word, unsigned n) */
        .globl  _rotl
_rotl:
        rlwnm   r3, r3, r4, 0, 31
        blr

/* unsigned byte_reverse(unsigned word) */
        .globl  _byte_reverse
        .globl  _NXSwapInt
_byte_reverse:
_NXSwapInt:
        rlwinm  r4, r3, 8, 0, 31
        rlwimi  r4, r3, 24, 0, 7
        rlwimi  r4, r3, 24, 16, 23
        mr      r3, r4
        blr

