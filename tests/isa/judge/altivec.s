# The harness for a 7400: cases and results end with v0 to v31, VRSAVE, and VSCR in the last word.

        .machine "altivec"
        .set ALTIVEC, 1
        .include "harness.s"
