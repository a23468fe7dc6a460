"""List the integer, compare and condition-register instructions (see `table` for the notation)."""

from __future__ import annotations

__all__ = ["ROWS"]

# A trap with TO = 31 is unconditional: its operands do not matter.
ROWS = """
[arithmetic]
mulli     7                 D                  <- A
subfic    8                 D ca               <- A
cmplwi    10      0:00600000 cD                <- A so
cmpwi     11      0:00600000 cD                <- A so
addic     12                D ca               <- A
addic.    13                D ca cr0           <- A so
addi      14                D                  <- A0
addis     15                D                  <- A0
rlwimi    20      rc        A                  <- S A
rlwinm    21      rc        A                  <- S
rlwnm     23      rc        A                  <- S B
ori       24                A                  <- S
oris      25                A                  <- S
xori      26                A                  <- S
xoris     27                A                  <- S
andi.     28                A cr0              <- S so
andis.    29                A cr0              <- S so

cmpw      31/0    0:00600001 cD                <- A B so
subfc     31/8    oe rc A=B D ca               <- A B
addc      31/10   oe rc     D ca               <- A B
mulhwu    31/11   rc        D                  <- A B
slw       31/24   rc        A                  <- S B
cntlzw    31/26   -B rc     A                  <- S
and       31/28   rc        A                  <- S B
cmplw     31/32   0:00600001 cD                <- A B so
subf      31/40   oe rc A=B D                  <- A B
andc      31/60   rc S=B    A                  <- S B
mulhw     31/75   rc        D                  <- A B
neg       31/104  -B oe rc  D                  <- A
nor       31/124  rc        A                  <- S B
subfe     31/136  oe rc A=B D ca               <- A B ca
adde      31/138  oe rc     D ca               <- A B ca
subfze    31/200  -B oe rc  D ca               <- A ca
addze     31/202  -B oe rc  D ca               <- A ca
subfme    31/232  -B oe rc  D ca               <- A ca
addme     31/234  -B oe rc  D ca               <- A ca
mullw     31/235  oe rc     D                  <- A B
add       31/266  oe rc     D                  <- A B
eqv       31/284  rc S=B    A                  <- S B
xor       31/316  rc S=B    A                  <- S B
orc       31/412  rc S=B    A                  <- S B
or        31/444  rc        A                  <- S B
divwu     31/459  oe rc     D                  <- A B
nand      31/476  rc        A                  <- S B
divw      31/491  oe rc     D                  <- A B
srw       31/536  rc        A                  <- S B
sraw      31/792  rc        A ca               <- S B
srawi     31/824  rc        A ca               <- S
extsh     31/922  -B rc     A                  <- S
extsb     31/954  -B rc     A                  <- S

mfcr      31/19   -A -B 0:1 D                  <- crs
mtcrf     31/144  0:00100801 fxm               <- S
mtocrf    31/144  1:00100000 0:801 fxm         <- S fxm
mcrxr     31/512  0:007ff801 cD ca ov so       <- ca ov so

mcrf      19/0    0:0063f801 cD                <- cS
crnor     19/33   0:1       bD                 <- bA bB bD
crandc    19/129  0:1       bD                 <- bA bB bD
crxor     19/193  0:1       bD                 <- bA bB bD
crnand    19/225  0:1       bD                 <- bA bB bD
crand     19/257  0:1       bD                 <- bA bB bD
creqv     19/289  0:1       bD                 <- bA bB bD
crorc     19/417  0:1       bD                 <- bA bB bD
cror      19/449  0:1       bD                 <- bA bB bD

[trap]
twi       3       1:03e00000                   <-
twi       3                                    <- A
tw        31/4    1:03e00000 0:1               <-
tw        31/4    0:1                          <- A B
"""
