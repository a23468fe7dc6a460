/* Move, clear and compare memory. */
#include "asm.h"

        .text
        .p2align 2
/* void bcopy(const void *from, void *to, size_t n); ovbcopy is the same. Overlap is fine. */
        .globl  _bcopy
        .globl  _ovbcopy
_bcopy:
_ovbcopy:
        mr      r6, r3
        mr      r3, r4
        mr      r4, r6
        b       Lcopy

/* void *memcpy(void *to, const void *from, size_t n); memmove is the same. */
        .globl  _memcpy
        .globl  _memmove
_memcpy:
_memmove:
Lcopy:
        cmpwi   cr7, r5, 0
        beqlr   cr7
        subf    r6, r4, r3              /* to - from, unsigned: below n means backwards */
        cmplw   cr1, r6, r5
        mr      r7, r3
        blt     cr1, Lbackward
        or      r8, r3, r4
        andi.   r8, r8, 3
        bne     Lforward_bytes
        srwi.   r8, r5, 4               /* 16 bytes a round */
        beq     Lforward_bytes
        mtctr   r8
        rlwinm  r5, r5, 0, 28, 31
Lforward_lines:
        lwz     r9, 0(r4)
        lwz     r10, 4(r4)
        lwz     r11, 8(r4)
        lwz     r12, 12(r4)
        addi    r4, r4, 16
        stw     r9, 0(r7)
        stw     r10, 4(r7)
        stw     r11, 8(r7)
        stw     r12, 12(r7)
        addi    r7, r7, 16
        bdnz    Lforward_lines
        cmpwi   r5, 0
        beqlr
Lforward_bytes:
        mtctr   r5
        addi    r4, r4, -1
        addi    r7, r7, -1
Lforward_byte:
        lbzu    r9, 1(r4)
        stbu    r9, 1(r7)
        bdnz    Lforward_byte
        blr
Lbackward:
        mtctr   r5
        add     r4, r4, r5
        add     r7, r7, r5
Lbackward_byte:
        lbzu    r9, -1(r4)
        stbu    r9, -1(r7)
        bdnz    Lbackward_byte
        blr

/* void bzero(void *p, size_t n) */
        .globl  _bzero
_bzero:
        mr      r5, r4
        li      r4, 0
/* void *memset(void *p, int c, size_t n) */
        .globl  _memset
_memset:
        cmpwi   r5, 0
        beqlr
        rlwimi  r4, r4, 8, 16, 23
        rlwimi  r4, r4, 16, 0, 15
        mr      r6, r3
        andi.   r7, r3, 3
        cmplwi  cr1, r5, 32
        bne     Lset_bytes
        blt     cr1, Lset_bytes
        srwi    r7, r5, 2
        mtctr   r7
        addi    r6, r6, -4
Lset_word:
        stwu    r4, 4(r6)
        bdnz    Lset_word
        addi    r6, r6, 4
        rlwinm. r5, r5, 0, 30, 31
        beqlr
Lset_bytes:
        mtctr   r5
        addi    r6, r6, -1
Lset_byte:
        stbu    r4, 1(r6)
        bdnz    Lset_byte
        blr

/* int memcmp(const void *a, const void *b, size_t n); bcmp is the same. */
        .globl  _memcmp
        .globl  _bcmp
_memcmp:
_bcmp:
        cmpwi   r5, 0
        beq     Lsame
        mtctr   r5
        addi    r6, r3, -1
        addi    r4, r4, -1
Lcompare:
        lbzu    r7, 1(r6)
        lbzu    r8, 1(r4)
        subf.   r3, r8, r7
        bnelr
        bdnz    Lcompare
Lsame:
        li      r3, 0
        blr

/* void bzero_phys(vm_offset_t physical): clear a page that need not be mapped. */
        .globl  _bzero_phys
_bzero_phys:
        mfmsr   r8
        rlwinm  r8, r8, 0, 19, 17       /* FP comes back by itself */
        rlwinm  r9, r8, 0, 28, 26       /* data translation off */
        rlwinm  r9, r9, 0, 17, 15       /* interrupts off */
        li      r10, PAGE_SIZE / CACHE_LINE
        mtctr   r10
        mtmsr   r9
        isync
Lclear_line:
        dcbz    0, r3
        addi    r3, r3, CACHE_LINE
        bdnz    Lclear_line
        sync
        mtmsr   r8
        isync
        blr

/* unsigned lw_phys(vm_offset_t physical): load a word that need not be mapped. */
        .globl  _lw_phys
_lw_phys:
        mfmsr   r8
        rlwinm  r8, r8, 0, 19, 17
        rlwinm  r9, r8, 0, 28, 26
        rlwinm  r9, r9, 0, 17, 15
        mtmsr   r9
        isync
        lwz     r3, 0(r3)
        sync
        mtmsr   r8
        isync
        blr

/* void bcopy_phys(vm_offset_t from, vm_offset_t to, vm_size_t words): copy words that need not be mapped. */
        .globl  _bcopy_phys
_bcopy_phys:
        cmpwi   r5, 0
        beqlr
        mfmsr   r8
        rlwinm  r8, r8, 0, 19, 17
        rlwinm  r9, r8, 0, 28, 26
        rlwinm  r9, r9, 0, 17, 15
        mtctr   r5
        addi    r3, r3, -4
        addi    r4, r4, -4
        mtmsr   r9
        isync
Lcopy_word:
        lwzu    r10, 4(r3)
        stwu    r10, 4(r4)
        bdnz    Lcopy_word
        sync
        mtmsr   r8
        isync
        blr
