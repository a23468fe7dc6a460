# The cases of booke.s on a 440.
        .machine "440"
        .include "booke.s"
