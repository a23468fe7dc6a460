# What stands for `counted call`: a hit, the function, an exit.
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
