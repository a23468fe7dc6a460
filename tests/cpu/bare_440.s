# A kernel of our own on a bare 440, which fills its TLB in turns and empties it at times (test_ppc440.py):
# at 0x900 the clock's handler, at 0xa00 and 0xb00 those of TLB misses, at 0x1000 the program.
    .machine "440"
    .macro filled address
    mtspr 272,10
    mtspr 273,11
    mtspr 274,12
    mtspr 275,13
    mfcr 11
    mtspr 276,11
    mfspr 10,\address
    li 11,0
    mtspr 946,11                # MMUCR
    lis 11,0x10
    lwz 13,8(11)
    addi 13,13,1
    cmpwi 13,62
    ble 5f
    li 13,0
5:  stw 13,8(11)
    b finish
    .endm

    .section .handler, "ax"
    mtspr 272,7
    lwz 7,4(4)
    addi 7,7,1
    stw 7,4(4)
    lis 7,0x800
    mtspr 336,7                 # TSR[DIS]: it is done with
    mfspr 7,27
    rlwinm 7,7,0,14,12          # less WE: it naps no longer
    mtspr 27,7
    mfspr 7,272
    rfi
    .org 0x100
    filled 61                   # DEAR
    .org 0x200
    filled 26                   # SRR0
    .org 0x300
finish:                         # from 0x40000000 on the 1 MiB at 2 MiB is seen, again and again
    rlwinm 11,10,0,12,19
    addis 11,11,0x20
    tlbwe 11,13,1
    rlwinm 12,10,0,0,19
    ori 12,12,0x210
    tlbwe 12,13,0
    li 11,7
    tlbwe 11,13,2
    lis 11,0x10
    lwz 12,16(11)
    addi 12,12,1
    stw 12,16(11)
    mfspr 11,276
    mtcr 11
    mfspr 13,275
    mfspr 12,274
    mfspr 11,273
    mfspr 10,272
    rfi

    .text
    .globl _start
_start:
    li 3,0
    mtspr 946,3
    li 4,63
    li 5,0x290                  # 256 MiB from 0 on, to stay
    tlbwe 5,4,0
    tlbwe 3,4,1
    li 5,7
    tlbwe 5,4,2
    isync
    tlbwe 3,3,0                 # what QEMU has mapped
    li 5,1
    tlbwe 3,5,0
    isync
    mtspr 63,3                  # IVPR
    li 5,0x900
    mtspr 410,5                 # IVOR10: the decrementer's interrupt
    li 5,0xa00
    mtspr 413,5
    li 5,0xb00
    mtspr 414,5
    lis 5,1
    mtspr 54,5                  # DECAR
    mtspr 22,5                  # DEC
    lis 5,0x440
    mtspr 340,5                 # TCR[DIE, ARE]
    lis 4,0x10
    li 5,62
    stw 5,12(4)
    lis 5,2
    ori 5,5,0x8000              # MSR[CE, EE]
    mtmsr 5
    b loop
empty:
    li 6,0
    lis 7,0x10
    lwz 8,12(7)
1:  tlbwe 6,6,0
    addi 6,6,1
    cmpw 6,8
    ble 1b
    isync
    lwz 8,20(7)
    addi 8,8,1
    stw 8,20(7)
    lis 8,0x1000                # a page of a process, say
    tlbsx. 6,0,8
    bnelr
    tlbwe 6,6,0
    blr
    .org 0x200
loop:
    addi 3,3,1
    stw 3,0(4)
    rlwinm 14,3,12,10,19        # of 1024 pages the next
    addis 14,14,0x4000
    lwz 15,0(14)
    lwz 15,24(4)
    cmpwi 1,15,0
    beq 1,1f
    rlwinm 15,3,0,19,31
    cmpwi 1,15,0
    bne 1,1f
    lis 15,0x300                # it is to nap, and for longer
    mtspr 54,15                 # DECAR
    mfmsr 15
    oris 15,15,4                # WE
    mtmsr 15
    isync
1:  andi. 16,3,0xfff
    bne loop
    bl empty
    b loop
