"""List the instructions that reach memory and caches (see `table` for the notation)."""

from __future__ import annotations

__all__ = ["ROWS"]

# lswx writes as many registers as XER says: what it writes it must also be taken to read.
ROWS = """
[load]
lwz       32                D                  <- A0            A0+d:4
lwzu      33      A!0 A!D D A              <- A             A0+d:4
lbz       34                D                  <- A0            A0+d:1
lbzu      35      A!0 A!D D A              <- A             A0+d:1
lhz       40                D                  <- A0            A0+d:2
lhzu      41      A!0 A!D D A              <- A             A0+d:2
lha       42                D                  <- A0            A0+d:2
lhau      43      A!0 A!D D A              <- A             A0+d:2
lmw       46                range              <- A0            A0+d:128
lfs       48                fD                 <- A0            A0+d:4
lfsu      49      A!0 fD A                 <- A             A0+d:4
lfd       50                fD                 <- A0            A0+d:8
lfdu      51      A!0 fD A                 <- A             A0+d:8
lwarx     31/20   0:1       D reservation      <- A0 B          A0+B:4
lwzx      31/23   0:1       D                  <- A0 B          A0+B:4
lwzux     31/55   0:1 A!0 A!D D A          <- A B           A0+B:4
lbzx      31/87   0:1       D                  <- A0 B          A0+B:1
lbzux     31/119  0:1 A!0 A!D D A          <- A B           A0+B:1
lhzx      31/279  0:1       D                  <- A0 B          A0+B:2
lhzux     31/311  0:1 A!0 A!D D A          <- A B           A0+B:2
eciwx     31/310  0:1       D                  <- A0 B spr      A0+B:4
lhax      31/343  0:1       D                  <- A0 B          A0+B:2
lhaux     31/375  0:1 A!0 A!D D A          <- A B           A0+B:2
lswx      31/533  0:1       gprs               <- gprs string   A0+B:128
lwbrx     31/534  0:1       D                  <- A0 B          A0+B:4
lfsx      31/535  0:1       fD                 <- A0 B          A0+B:4
lfsux     31/567  0:1 A!0 fD A             <- A B           A0+B:4
lswi      31/597  0:1       count              <- A0            A0:32
lfdx      31/599  0:1       fD                 <- A0 B          A0+B:8
lfdux     31/631  0:1 A!0 fD A             <- A B           A0+B:8
lhbrx     31/790  0:1       D                  <- A0 B          A0+B:2

[store]
stw       36                                   <- S A0          A0+d:4
stwu      37      A!0 A                    <- S A           A0+d:4
stb       38                                   <- S A0          A0+d:1
stbu      39      A!0 A                    <- S A           A0+d:1
sth       44                                   <- S A0          A0+d:2
sthu      45      A!0 A                    <- S A           A0+d:2
stmw      47                                   <- range A0      A0+d:128
stfs      52                                   <- fS A0         A0+d:4
stfsu     53      A!0 A                    <- fS A          A0+d:4
stfd      54                                   <- fS A0         A0+d:8
stfdu     55      A!0 A                    <- fS A          A0+d:8
stwcx.    31/150  1:1       cr0 reservation    <- S A0 B so reservation  A0+B:4
stwx      31/151  0:1                          <- S A0 B        A0+B:4
stwux     31/183  0:1 A!0 A                <- S A B         A0+B:4
stbx      31/215  0:1                          <- S A0 B        A0+B:1
stbux     31/247  0:1 A!0 A                <- S A B         A0+B:1
sthx      31/407  0:1                          <- S A0 B        A0+B:2
ecowx     31/438  0:1                          <- S A0 B spr    A0+B:4
sthux     31/439  0:1 A!0 A                <- S A B         A0+B:2
stswx     31/661  0:1                          <- gprs string   A0+B:128
stwbrx    31/662  0:1                          <- S A0 B        A0+B:4
stfsx     31/663  0:1                          <- fS A0 B       A0+B:4
stfsux    31/695  0:1 A!0 A                <- fS A B        A0+B:4
stswi     31/725  0:1                          <- count A0      A0:32
stfdx     31/727  0:1                          <- fS A0 B       A0+B:8
stfdux    31/759  0:1 A!0 A                <- fS A B        A0+B:8
sthbrx    31/918  0:1                          <- S A0 B        A0+B:2
stfiwx    31/983  0:1                          <- fS A0 B       A0+B:4
dcbz      31/1014 -D 0:1                       <- A0 B          A0+B:32

[system]
dcbst     31/54   -D 0:1                       <- A0 B
dcbf      31/86   -D 0:1                       <- A0 B
dcbtst    31/246  -D 0:1                       <- A0 B
dcbt      31/278  -D 0:1                       <- A0 B
dcbi      31/470  -D 0:1 privileged            <- A0 B
dcba      31/758  -D 0:1                       <- A0 B
icbi      31/982  -D 0:1                       <- A0 B
lwsync    31/598  1:00200000 0:03dff801        <-
ptesync   31/598  1:00400000 0:03bff801        <-
sync      31/598  -D -A -B 0:1                 <-
eieio     31/854  -D -A -B 0:1                 <-
isync     19/150  -D -A -B 0:1                 <-
"""
