# run_netisr: r3, r4 and LR are live; the frame lies below Darwin's red zone of 224 bytes.
        stwu    1, -304(1)
        mflr    12
        stw     3, 56(1)
        stw     4, 60(1)
        stw     12, 64(1)
        lis     12, counter@h
1:      lwarx   11, 0, 12
        addi    11, 11, 1
        stwcx.  11, 0, 12
        bne-    1b
        bl      function
        lis     12, counter@h
        ori     12, 12, 4
2:      lwarx   11, 0, 12
        addi    11, 11, 1
        stwcx.  11, 0, 12
        bne-    2b
        lwz     12, 64(1)
        lwz     3, 56(1)
        lwz     4, 60(1)
        mtlr    12
        addi    1, 1, 304
        lis     10, 7
        b       back
