# A kernel of our own on a bare 405, which fills all 64 entries of its TLB in turns, as Linux does (test_ppc405.py):
# by a table of 16 MiB each at 2 MiB, and where that holds nothing by pages of 4 KiB from 3 MiB on.
    .machine "405"
    .macro filled address
    mtspr 276,10
    mtspr 277,11
    mtspr 278,12
    mfcr 11
    mtspr 279,11
    mfspr 10,\address
    b finish
    .endm

    .section .handler, "ax"         # at 0x1000: the programmable timer
    mtspr 272,7
    mtspr 273,8
    lis 7,0x10
    lwz 8,4(7)
    addi 8,8,1
    stw 8,4(7)
    lis 8,0x800
    mtspr 984,8                     # TSR[PIS]: it is done with
    mfspr 8,273
    mfspr 7,272
    rfi
    .org 0x100
    filled 981                      # DEAR
    .org 0x200
    filled 26                       # SRR0
    .org 0x300
finish:
    rlwinm 11,10,10,22,29
    addis 11,11,0x20
    lwz 11,0(11)
    lis 12,0x10
    cmpwi 11,0
    beq 1f
    rlwinm 10,10,0,0,7
    ori 10,10,0x3c0                 # valid, 16 MiB
    b 2f
1:  rlwinm 11,10,0,12,19
    addis 11,11,0x30
    ori 11,11,0x300                 # EX, WR
    rlwinm 10,10,0,0,19
    ori 10,10,0xc0                  # valid, 4 KiB
2:  stw 10,12(12)
    lwz 10,16(12)
    addi 10,10,1
    stw 10,16(12)                   # one miss more
    rlwinm 10,10,0,26,31            # the next entry
    tlbwe 11,10,1
    lwz 11,12(12)
    tlbwe 11,10,0
    mfspr 11,279
    mtcr 11
    mfspr 12,278
    mfspr 11,277
    mfspr 10,276
    rfi

    .text                           # at 0x2000
    .globl _start
_start:
    li 3,0
    mtspr 982,3                     # EVPR
    mtspr 945,3                     # PID
    tlbia
    lis 4,0x20
    li 5,0x300
    stw 5,0(4)                      # the first 16 MiB are where they are
    lis 5,1
    mtspr 987,5                     # PIT
    lis 5,0x440
    mtspr 986,5                     # TCR[PIE, ARE]
    lis 4,0x10
    lis 5,2
    ori 5,5,0x8030                  # MSR[CE, EE, IR, DR]
    mtspr 27,5
    lis 5,loop@h
    ori 5,5,loop@l
    mtspr 26,5
    rfi
    .org 0x200
loop:
    addi 3,3,1
    stw 3,0(4)
    rlwinm 14,3,12,14,19            # of 64 pages the next
    addis 14,14,0x4000
    lwz 15,0(14)
    b loop
