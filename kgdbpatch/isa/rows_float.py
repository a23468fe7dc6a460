"""List the floating-point instructions (see `table` for the notation)."""

from __future__ import annotations

__all__ = ["ROWS"]

# With FPSCR[VE] or [ZE] set an invalid operation leaves the target as it was, so whatever may
# raise one reads its target as well. FPSCR is sticky: what writes it also reads it.
ROWS = """
[arithmetic]
fdivs     59a18   -C rc     fD fpscr           <- fA fB fD fpscr
fsubs     59a20   -C rc     fD fpscr           <- fA fB fD fpscr
fadds     59a21   -C rc     fD fpscr           <- fA fB fD fpscr
fsqrts    59a22   -A -C rc  fD fpscr           <- fB fD fpscr
fres      59a24   -A -C rc  fD fpscr           <- fB fD fpscr
fmuls     59a25   -B rc     fD fpscr           <- fA fC fD fpscr
fmsubs    59a28   rc        fD fpscr           <- fA fB fC fD fpscr
fmadds    59a29   rc        fD fpscr           <- fA fB fC fD fpscr
fnmsubs   59a30   rc        fD fpscr           <- fA fB fC fD fpscr
fnmadds   59a31   rc        fD fpscr           <- fA fB fC fD fpscr
fdiv      63a18   -C rc     fD fpscr           <- fA fB fD fpscr
fsub      63a20   -C rc     fD fpscr           <- fA fB fD fpscr
fadd      63a21   -C rc     fD fpscr           <- fA fB fD fpscr
fsqrt     63a22   -A -C rc  fD fpscr           <- fB fD fpscr
fsel      63a23   rc        fD                 <- fA fB fC
fmul      63a25   -B rc     fD fpscr           <- fA fC fD fpscr
frsqrte   63a26   -A -C rc  fD fpscr           <- fB fD fpscr
fmsub     63a28   rc        fD fpscr           <- fA fB fC fD fpscr
fmadd     63a29   rc        fD fpscr           <- fA fB fC fD fpscr
fnmsub    63a30   rc        fD fpscr           <- fA fB fC fD fpscr
fnmadd    63a31   rc        fD fpscr           <- fA fB fC fD fpscr
fcmpu     63/0    0:00600001 cD fpscr          <- fA fB fpscr
frsp      63/12   -A rc     fD fpscr           <- fB fD fpscr
fctiw     63/14   -A rc     fD fpscr           <- fB fD fpscr
fctiwz    63/15   -A rc     fD fpscr           <- fB fD fpscr
fcmpo     63/32   0:00600001 cD fpscr          <- fA fB fpscr
mtfsb1    63/38   -A -B rc  fpscr              <- fpscr
fneg      63/40   -A rc     fD                 <- fB
mcrfs     63/64   0:0063f801 cD fpscr          <- fpscr
mtfsb0    63/70   -A -B rc  fpscr              <- fpscr
fmr       63/72   -A rc     fD                 <- fB
mtfsfi    63/134  0:007f0800 rc fpscr          <- fpscr
fnabs     63/136  -A rc     fD                 <- fB
fabs      63/264  -A rc     fD                 <- fB
mffs      63/583  -A -B rc  fD                 <- fpscr
mtfsf     63/711  0:02010000 rc fpscr          <- fB fpscr
"""
