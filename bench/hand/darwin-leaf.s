# run_netisr: r10 is about to be set, so r10..r12 are free; LR is live and so is none of CR0.
# The function changes no more than r9..r12: nothing but LR is kept, in a register it leaves alone.
        lis     12, counter@h
1:      lwarx   11, 0, 12
        addi    11, 11, 1
        stwcx.  11, 0, 12
        bne-    1b
        mflr    12
        bl      function
        mtlr    12
        lis     10, 7
        b       back
