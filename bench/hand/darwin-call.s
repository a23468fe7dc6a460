# run_netisr: r3, r4 and LR are live; the frame lies below Darwin's red zone of 224 bytes.
        stwu    1, -304(1)
        mflr    12
        stw     3, 56(1)
        stw     4, 60(1)
        stw     12, 64(1)
        counted call
        lwz     12, 64(1)
        lwz     3, 56(1)
        lwz     4, 60(1)
        mtlr    12
        addi    1, 1, 304
        lis     10, 7
        b       back
