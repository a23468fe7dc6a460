/* Machine state: time base, decrementer, segment registers, TLB. */
#include "asm.h"

        .text
        .p2align 2
/* uint64_t mach_absolute_time(void) */
        .globl  _mach_absolute_time
_mach_absolute_time:
        mftbu   r3
        mftb    r4
        mftbu   r5
        cmplw   r5, r3
        bne-    _mach_absolute_time
        blr

/* void set_segment(vm_offset_t address, unsigned value) */
        .globl  _set_segment
_set_segment:
        isync
        mtsrin  r4, r3
        isync
        blr

/* void set_sdr1(unsigned value): translation must be off. */
        .globl  _set_sdr1
_set_sdr1:
        sync
        mtspr   25, r3
        isync
        blr

/* void tlb_invalidate(vm_offset_t address) */
        .globl  _tlb_invalidate
_tlb_invalidate:
        sync
        tlbie   r3
        eieio
        tlbsync
        sync
        blr

/* void tlb_invalidate_all(void): the 750 selects a TLB set by six address bits. */
        .globl  _tlb_invalidate_all
_tlb_invalidate_all:
        li      r3, 64
        mtctr   r3
        li      r3, 0
        sync
Linvalidate:
        tlbie   r3
        addi    r3, r3, PAGE_SIZE
        bdnz    Linvalidate
        eieio
        tlbsync
        sync
        isync
        blr

/* int splhigh(void): interrupts off; what splx needs. One interrupt level: all names are the same. */
        .globl  _splhigh
        .globl  _splnet
        .globl  _splimp
        .globl  _splclock
_splhigh:
_splnet:
_splimp:
_splclock:
        mfmsr   r4
        rlwinm  r3, r4, 0, 16, 16
        rlwinm  r4, r4, 0, 17, 15
        rlwinm  r4, r4, 0, 19, 17       /* FP: its owner may have changed since mfmsr */
        mtmsr   r4
        isync
        blr

/* void splx(int level) */
        .globl  _splx
_splx:
        cmpwi   r3, 0
        beqlr
/* void spl0(void): interrupts on. */
        .globl  _spl0
_spl0:
        mfmsr   r4
        rlwinm  r4, r4, 0, 19, 17
        ori     r4, r4, MSR_EE
        mtmsr   r4
        isync
        blr

/* void flush_code(vm_offset_t start, vm_size_t size): make words that were stored executable. */
        .globl  _flush_code
_flush_code:
        add     r4, r3, r4
        rlwinm  r5, r3, 0, 0, 26
        mr      r6, r5
Lflush_data:
        dcbst   0, r5
        addi    r5, r5, CACHE_LINE
        cmplw   r5, r4
        blt     Lflush_data
        sync
Lflush_code:
        icbi    0, r6
        addi    r6, r6, CACHE_LINE
        cmplw   r6, r4
        blt     Lflush_code
        sync
        isync
        blr
