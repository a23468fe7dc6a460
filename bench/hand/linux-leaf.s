# udp_sendmsg: LR and CR are live (the function keeps CR itself), r10..r12 are free.
# leaf.c changes r9 and r10 at most; it leaves r12 and CR alone.
        mfcr    10
        lis     12, counter@h
1:      lwarx   11, 0, 12
        addi    11, 11, 1
        stwcx.  11, 0, 12
        bne-    1b
        mtcrf   0x80, 10
        mflr    12
        bl      function
        mtlr    12
        mflr    0
        b       back
