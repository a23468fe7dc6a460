# The cases of booke.s on an e500, which has SPE.
        .machine "e500"
        .equ SPE, 1
        .include "booke.s"
