/* Atomic operations: lwarx ... stwcx. */
        .text
        .p2align 2
/* unsigned hw_atomic_add(volatile unsigned *p, int n): the new value. */
        .globl  _hw_atomic_add
_hw_atomic_add:
        mr      r6, r3
Ladd_again:
        lwarx   r3, 0, r6
        add     r3, r3, r4
        stwcx.  r3, 0, r6
        bne-    Ladd_again
        blr

        .globl  _hw_atomic_sub
_hw_atomic_sub:
        neg     r4, r4
        b       _hw_atomic_add

/* unsigned hw_atomic_or(volatile unsigned *p, unsigned mask): the new value. */
        .globl  _hw_atomic_or
_hw_atomic_or:
        mr      r6, r3
Lor_again:
        lwarx   r3, 0, r6
        or      r3, r3, r4
        stwcx.  r3, 0, r6
        bne-    Lor_again
        blr

        .globl  _hw_atomic_and
_hw_atomic_and:
        mr      r6, r3
Land_again:
        lwarx   r3, 0, r6
        and     r3, r3, r4
        stwcx.  r3, 0, r6
        bne-    Land_again
        blr

/* int hw_compare_and_store(unsigned old, unsigned new, volatile unsigned *p): 1 when done. */
        .globl  _hw_compare_and_store
_hw_compare_and_store:
        mr      r6, r3
Lcas_again:
        lwarx   r7, 0, r5
        cmplw   r7, r6
        bne-    Lcas_failed
        stwcx.  r4, 0, r5
        bne-    Lcas_again
        isync
        li      r3, 1
        blr
Lcas_failed:
        li      r3, 0
        blr

/* int hw_lock_try(volatile unsigned *lock, unsigned owner): 1 when it was free. */
        .globl  _hw_lock_try
_hw_lock_try:
        mr      r6, r3
        li      r3, 0
Ltry_again:
        lwarx   r5, 0, r6
        cmpwi   r5, 0
        bnelr-
        stwcx.  r4, 0, r6
        bne-    Ltry_again
        isync
        li      r3, 1
        blr

/* unsigned hw_lock_unlock(volatile unsigned *lock): free it; the value it had. */
        .globl  _hw_lock_unlock
_hw_lock_unlock:
        mr      r6, r3
        li      r5, 0
        sync
Lunlock_again:
        lwarx   r3, 0, r6
        stwcx.  r5, 0, r6
        bne-    Lunlock_again
        blr
