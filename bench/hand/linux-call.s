# udp_sendmsg: r3..r8, LR and the volatile fields of CR are live (the function keeps CR itself).
        stwu    1, -48(1)
        mflr    12
        mfcr    11
        stw     3, 8(1)
        stw     4, 12(1)
        stw     5, 16(1)
        stw     6, 20(1)
        stw     7, 24(1)
        stw     8, 28(1)
        stw     12, 32(1)
        stw     11, 36(1)
        counted call
        lwz     12, 32(1)
        lwz     11, 36(1)
        lwz     3, 8(1)
        lwz     4, 12(1)
        lwz     5, 16(1)
        lwz     6, 20(1)
        lwz     7, 24(1)
        lwz     8, 28(1)
        mtlr    12
        mtcrf   0xc7, 11
        addi    1, 1, 48
        mflr    0
        b       back
