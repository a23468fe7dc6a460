/* A program's start, and the system calls: on success the instruction behind sc is skipped. */
        .section .text.start, "ax"
        .globl  _start
_start:
        bl      _main
        b       _exit

        .text
        .globl  _errno
        .macro  call name, number
        .globl  _\name
_\name:
        li      r0, \number
        sc
        b       Lfailed
        blr
        .endm

        call    exit, 1
        call    read, 3
        call    write, 4
        call    open, 5
        call    close, 6
        call    wait4, 7
        call    unlink, 10
        call    getpid, 20
        call    trace, 26
        call    recvfrom, 29
        call    vm_deallocate, 73
        call    socket, 97
        call    bind, 104
        call    gettimeofday, 116
        call    rename, 128
        call    sendto, 133
        call    file_size, 189
        call    vm_allocate, 197
        call    sysctl, 202
        call    sleep_ticks, 240
        call    spawn, 244
        call    report, 300
        call    kmod_load, 310
        call    kmod_unload, 311
        call    kmod_call, 312
        call    sched_yield, 331
        call    no_such_call, 339

Lfailed:
        lis     r4, _errno@ha
        stw     r3, _errno@l(r4)
        li      r3, -1
        blr

/* unsigned misaligned_load(const void *p): lwarx where it must not be. */
        .globl  _misaligned_load
_misaligned_load:
        lwarx   r3, 0, r3
        blr

/* unsigned misaligned_load_at(const void *p, unsigned offset): the same, indexed. */
        .globl  _misaligned_load_at
_misaligned_load_at:
        lwarx   r9, r3, r4
        mr      r3, r9
        blr

/* bool misaligned_store(void *p): whether a stwcx. after such a lwarx stores. */
        .globl  _misaligned_store
_misaligned_store:
        lwarx   r4, 0, r3
        stwcx.  r4, 0, r3
        li      r3, 0
        bnelr
        li      r3, 1
        blr

/* unsigned processor_version(void): privileged, answered by the kernel. */
        .globl  _processor_version
_processor_version:
        mfpvr   r3
        blr

/* void count_down(unsigned n) */
        .globl  _count_down
_count_down:
        mtctr   r3
Lcount:
        bdnz    Lcount
        blr

        .globl  _do_privileged
_do_privileged:
        mtmsr   r3
        blr
        .globl  _do_illegal
_do_illegal:
        .long   0
        blr
        .globl  _do_trap
_do_trap:
        trap
        blr
