# The cases of booke.s on a 405: not of Book E, so its exceptions enter at fixed offsets from EVPR.
        .machine "405"
        .equ FIXED, 1
        .include "booke.s"
