"""List branches, system calls and the privileged instructions (see `table` for the notation)."""

from __future__ import annotations

__all__ = ["ROWS"]

# BO (the D field) decides what a branch reads: 1z1zz always, 0z1zz the condition, 1z0zz the
# counter, 0z0zz both. The four cases are four rows, so that kind and effect follow from the row.
# A special register that the model lacks may be read as nothing at all: the target is kept.
ROWS = """
[jump]
b         18      0:3                          <-
ba        18      1:2 0:1                      <-
bc        16      1:02800000 0:3               <-
bca       16      1:02800002 0:1               <-

[call]
bl        18      1:1 0:2   lr                 <-
bla       18      1:3       lr                 <-
bcl       16      1:02800001 0:2 lr            <-
bcla      16      1:02800003 lr                <-
bclrl     19/16   1:02800001 lr                <- lr
bcctrl    19/528  1:02800001 lr                <- ctr

[call conditional]
bcl       16      1:00800001 0:02000002 lr     <- bA
bcla      16      1:00800003 0:02000000 lr     <- bA
bcl       16      1:02000001 0:00800002 lr ctr <- ctr
bcla      16      1:02000003 0:00800000 lr ctr <- ctr
bcl       16      1:1 0:02800002 lr ctr        <- bA ctr
bcla      16      1:3 0:02800000 lr ctr        <- bA ctr
bclrl     19/16   1:00800001 0:02000000 lr     <- bA lr
bclrl     19/16   1:02000001 0:00800000 lr ctr <- ctr lr
bclrl     19/16   1:1 0:02800000 lr ctr        <- bA ctr lr
bcctrl    19/528  1:00800001 0:02000000 lr     <- bA ctr
bcctrl    19/528  1:1 0:00800000 lr ctr        <- bA ctr

[branch conditional]
bc        16      1:00800000 0:02000003        <- bA
bca       16      1:00800002 0:02000001        <- bA
bc        16      1:02000000 0:00800003 ctr    <- ctr
bca       16      1:02000002 0:00800001 ctr    <- ctr
bc        16      0:02800003 ctr               <- bA ctr
bca       16      1:2 0:02800001 ctr           <- bA ctr

[return]
bclr      19/16   1:02800000 0:1               <- lr

[return conditional]
bclr      19/16   1:00800000 0:02000001        <- bA lr
bclr      19/16   1:02000000 0:00800001 ctr    <- ctr lr
bclr      19/16   0:02800001 ctr               <- bA ctr lr

[indirect]
bcctr     19/528  1:02800000 0:1               <- ctr

[indirect conditional]
bcctr     19/528  1:00800000 0:02000001        <- bA ctr
bcctr     19/528  0:00800001 ctr               <- bA ctr

[syscall]
sc        17      1:2 0:03fffffd               <-

[rfi]
rfi       19/50   -D -A -B 0:1 privileged msr  <- srr0 srr1 msr

[arithmetic]
mfxer     31/339  spr:1 0:1 D                  <- ca ov so string
mflr      31/339  spr:8 0:1 D                  <- lr
mfctr     31/339  spr:9 0:1 D                  <- ctr
mtxer     31/467  spr:1 0:1 ca ov so string    <- S
mtlr      31/467  spr:8 0:1 lr                 <- S
mtctr     31/467  spr:9 0:1 ctr                <- S
mftb      31/371  spr:268 0:1 D                <- tb
mftbu     31/371  spr:269 0:1 D                <- tb
mfspr     31/339  spr:268~1 0:1 D              <- tb

[system]
mfsrr0    31/339  spr:26 0:1 privileged D      <- srr0
mfsrr1    31/339  spr:27 0:1 privileged D      <- srr1
mtsrr0    31/467  spr:26 0:1 privileged srr0   <- S
mtsrr1    31/467  spr:27 0:1 privileged srr1   <- S
mfspr     31/339  spr:18~1 0:1 privileged D    <- spr
mfspr     31/339  spr:22 0:1 privileged D      <- spr
mfspr     31/339  spr:25 0:1 privileged D      <- spr
mfspr     31/339  spr:272~3 0:1 privileged D   <- spr
mfspr     31/339  spr:287 0:1 privileged D     <- spr
mfspr     31/339  spr:528~15 0:1 privileged D  <- spr
mfspr     31/339  spr:1008~1 0:1 privileged D  <- spr
mfspr     31/339  1:00100000 0:1 privileged D  <- spr D
mtspr     31/467  1:00100000 0:1 privileged spr <- S spr
mfspr     31/339  0:00100001 D                 <- spr tb D
mtspr     31/467  0:00100001 spr               <- S spr
mfmsr     31/83   -A -B 0:1 privileged D       <- msr
mtmsr     31/146  -A -B 0:1 privileged msr     <- S
mtsr      31/210  0:0010f801 privileged sr     <- S sr
mtsrin    31/242  -A 0:1 privileged sr         <- S B sr
mfsr      31/595  0:0010f801 privileged D      <- sr
mfsrin    31/659  -A 0:1 privileged D          <- B sr
tlbie     31/306  -D -A 0:1 privileged tlb     <- B tlb
tlbsync   31/566  -D -A -B 0:1 privileged      <-
tlbia     31/370  -D -A -B 0:1 privileged tlb  <- tlb
tlbld     31/978  -D -A 0:1 privileged tlb     <- B spr tlb
tlbli     31/1010 -D -A 0:1 privileged tlb     <- B spr tlb
"""
