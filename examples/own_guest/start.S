/* The way in, the CPU's address map, and the exceptions: the clock's tick, and faults, which end it all. */

#define FRAME 176           /* 0: back chain; 16 + 4n: rn; 144: lr ctr cr xer; 160: srr0 and srr1, side by side */
#define TRANSLATED 0x1032   /* MSR: ME, IR, DR, RI */
#define UNTRANSLATED 0x1000 /* MSR: ME */

    .macro exception at, handler
    .org \at
    stwu 1, -FRAME(1)
    stw 0, 16(1)
    lis 0, \handler@h
    ori 0, 0, \handler@l
    b common
    .endm

    .section .vectors, "ax"
    exception 0x200, fault
    exception 0x300, fault
    exception 0x400, fault
    exception 0x600, fault
    exception 0x700, fault
    exception 0x800, fault
    exception 0x900, tick
    exception 0xc00, fault
    exception 0xd00, fault

    .org 0x2000
common:
    stmw 2, 24(1)
    mflr 3
    stw 3, 144(1)
    mfctr 3
    stw 3, 148(1)
    mfcr 3
    stw 3, 152(1)
    mfxer 3
    stw 3, 156(1)
    mfsrr0 3
    stw 3, 160(1)
    mfsrr1 3
    stw 3, 164(1)
    mtctr 0
    li 0, TRANSLATED
    mtmsr 0
    isync
    mr 3, 1
    bctrl
    li 0, UNTRANSLATED
    mtmsr 0
    isync
    lwz 3, 164(1)
    mtsrr1 3
    lwz 3, 160(1)
    mtsrr0 3
    lwz 3, 156(1)
    mtxer 3
    lwz 3, 152(1)
    mtcr 3
    lwz 3, 148(1)
    mtctr 3
    lwz 3, 144(1)
    mtlr 3
    lmw 2, 24(1)
    lwz 0, 16(1)
    addi 1, 1, FRAME
    rfi

    .macro bat upper, lower, number, address, size, mode
    lis 3, \address@h
    ori 3, 3, \size
    lis 4, \address@h
    ori 4, 4, \mode
    mtspr \lower, 4
    mtspr \upper, 3
    .endm

    .text
    .globl start
    .type start, @function
start:
    li 3, 0
    .irp number, 528, 530, 532, 534, 536, 538, 540, 542
    mtspr \number, 3
    .endr
    bat 528, 529, 0, 0x00000000, 0x00fe, 0x12   /* instructions: the first 8 MiB */
    bat 536, 537, 0, 0x00000000, 0x00fe, 0x12   /* data: the same */
    bat 538, 539, 1, 0x80000000, 0x1ffe, 0x2a   /* devices */
    bat 540, 541, 2, 0xf0000000, 0x1ffe, 0x2a   /* the PCI bridge, till devices are set up */
    lis 3, page_table@h                         /* an empty one: what no BAT maps is a fault */
    mtsdr1 3
    isync
    li 3, TRANSLATED
    mtmsr 3
    isync
    lis 1, stack_top@ha
    addi 1, 1, stack_top@l - 16
    li 0, 0
    stw 0, 0(1)
    bl main
1:  b 1b
    .size start, . - start

    .bss
    .balign 0x10000
page_table:
    .space 0x10000
    .space 0x4000
    .globl stack_top
stack_top:

    .section .note.GNU-stack, "", @progbits
