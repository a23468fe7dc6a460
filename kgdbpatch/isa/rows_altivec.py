"""List the AltiVec instructions of the 74xx (see `table` for the notation).

Source: "AltiVec Technology Programming Environments Manual", chapter 6. They are no part of the table of
the plain 7xx: `altivec` puts them in front of it for a CPU that has them.
"""

from __future__ import annotations

__all__ = ["ROWS"]

# VSCR[SAT] is sticky: what may set it also reads it. VSCR[NJ] decides what becomes of denormalized numbers,
# so floating-point operations read VSCR, but for those whose outcome is the same. An element load leaves the
# other elements undefined.
# dst and dstst name a stream's address and shape by rA and rB; with rA = 0 they trap (seen on QEMU's 7400).
ROWS = """
[arithmetic]
vaddubm    4v0                  vD             <- vA vB
vadduhm    4v64                 vD             <- vA vB
vadduwm    4v128                vD             <- vA vB
vaddcuw    4v384                vD             <- vA vB
vaddubs    4v512                vD vscr        <- vA vB vscr
vadduhs    4v576                vD vscr        <- vA vB vscr
vadduws    4v640                vD vscr        <- vA vB vscr
vaddsbs    4v768                vD vscr        <- vA vB vscr
vaddshs    4v832                vD vscr        <- vA vB vscr
vaddsws    4v896                vD vscr        <- vA vB vscr
vsububm    4v1024               vD             <- vA vB
vsubuhm    4v1088               vD             <- vA vB
vsubuwm    4v1152               vD             <- vA vB
vsubcuw    4v1408               vD             <- vA vB
vsububs    4v1536               vD vscr        <- vA vB vscr
vsubuhs    4v1600               vD vscr        <- vA vB vscr
vsubuws    4v1664               vD vscr        <- vA vB vscr
vsubsbs    4v1792               vD vscr        <- vA vB vscr
vsubshs    4v1856               vD vscr        <- vA vB vscr
vsubsws    4v1920               vD vscr        <- vA vB vscr

vmaxub     4v2                  vD             <- vA vB
vmaxuh     4v66                 vD             <- vA vB
vmaxuw     4v130                vD             <- vA vB
vmaxsb     4v258                vD             <- vA vB
vmaxsh     4v322                vD             <- vA vB
vmaxsw     4v386                vD             <- vA vB
vminub     4v514                vD             <- vA vB
vminuh     4v578                vD             <- vA vB
vminuw     4v642                vD             <- vA vB
vminsb     4v770                vD             <- vA vB
vminsh     4v834                vD             <- vA vB
vminsw     4v898                vD             <- vA vB
vavgub     4v1026               vD             <- vA vB
vavguh     4v1090               vD             <- vA vB
vavguw     4v1154               vD             <- vA vB
vavgsb     4v1282               vD             <- vA vB
vavgsh     4v1346               vD             <- vA vB
vavgsw     4v1410               vD             <- vA vB

vrlb       4v4                  vD             <- vA vB
vrlh       4v68                 vD             <- vA vB
vrlw       4v132                vD             <- vA vB
vslb       4v260                vD             <- vA vB
vslh       4v324                vD             <- vA vB
vslw       4v388                vD             <- vA vB
vsl        4v452                vD             <- vA vB
vsrb       4v516                vD             <- vA vB
vsrh       4v580                vD             <- vA vB
vsrw       4v644                vD             <- vA vB
vsr        4v708                vD             <- vA vB
vsrab      4v772                vD             <- vA vB
vsrah      4v836                vD             <- vA vB
vsraw      4v900                vD             <- vA vB
vslo       4v1036               vD             <- vA vB
vsro       4v1100               vD             <- vA vB
vand       4v1028               vD             <- vA vB
vandc      4v1092               vD             <- vA vB
vor        4v1156               vD             <- vA vB
vxor       4v1220               vD             <- vA vB
vnor       4v1284               vD             <- vA vB
mfvscr     4v1540  -A -B        vD             <- vscr
mtvscr     4v1604  -D -A        vscr           <- vB

vmuloub    4v8                  vD             <- vA vB
vmulouh    4v72                 vD             <- vA vB
vmulosb    4v264                vD             <- vA vB
vmulosh    4v328                vD             <- vA vB
vmuleub    4v520                vD             <- vA vB
vmuleuh    4v584                vD             <- vA vB
vmulesb    4v776                vD             <- vA vB
vmulesh    4v840                vD             <- vA vB
vsum4ubs   4v1544               vD vscr        <- vA vB vscr
vsum4sbs   4v1800               vD vscr        <- vA vB vscr
vsum4shs   4v1608               vD vscr        <- vA vB vscr
vsum2sws   4v1672               vD vscr        <- vA vB vscr
vsumsws    4v1928               vD vscr        <- vA vB vscr

vaddfp     4v10                 vD             <- vA vB vscr
vsubfp     4v74                 vD             <- vA vB vscr
vrefp      4v266   -A           vD             <- vB vscr
vrsqrtefp  4v330   -A           vD             <- vB vscr
vexptefp   4v394   -A           vD             <- vB vscr
vlogefp    4v458   -A           vD             <- vB vscr
vrfin      4v522   -A           vD             <- vB
vrfiz      4v586   -A           vD             <- vB
vrfip      4v650   -A           vD             <- vB vscr
vrfim      4v714   -A           vD             <- vB vscr
vcfux      4v778                vD             <- vB
vcfsx      4v842                vD             <- vB
vctuxs     4v906                vD vscr        <- vB vscr
vctsxs     4v970                vD vscr        <- vB vscr
vmaxfp     4v1034               vD             <- vA vB vscr
vminfp     4v1098               vD             <- vA vB vscr

vmrghb     4v12                 vD             <- vA vB
vmrghh     4v76                 vD             <- vA vB
vmrghw     4v140                vD             <- vA vB
vmrglb     4v268                vD             <- vA vB
vmrglh     4v332                vD             <- vA vB
vmrglw     4v396                vD             <- vA vB
vspltb     4v524   0:100000     vD             <- vB
vsplth     4v588   0:180000     vD             <- vB
vspltw     4v652   0:1c0000     vD             <- vB
vspltisb   4v780   -B           vD             <-
vspltish   4v844   -B           vD             <-
vspltisw   4v908   -B           vD             <-
vpkuhum    4v14                 vD             <- vA vB
vpkuwum    4v78                 vD             <- vA vB
vpkuhus    4v142                vD vscr        <- vA vB vscr
vpkuwus    4v206                vD vscr        <- vA vB vscr
vpkshus    4v270                vD vscr        <- vA vB vscr
vpkswus    4v334                vD vscr        <- vA vB vscr
vpkshss    4v398                vD vscr        <- vA vB vscr
vpkswss    4v462                vD vscr        <- vA vB vscr
vupkhsb    4v526   -A           vD             <- vB
vupkhsh    4v590   -A           vD             <- vB
vupklsb    4v654   -A           vD             <- vB
vupklsh    4v718   -A           vD             <- vB
vpkpx      4v782                vD             <- vA vB
vupkhpx    4v846   -A           vD             <- vB
vupklpx    4v974   -A           vD             <- vB

vcmpequb   4c6     rc           vD             <- vA vB
vcmpequh   4c70    rc           vD             <- vA vB
vcmpequw   4c134   rc           vD             <- vA vB
vcmpgtub   4c518   rc           vD             <- vA vB
vcmpgtuh   4c582   rc           vD             <- vA vB
vcmpgtuw   4c646   rc           vD             <- vA vB
vcmpgtsb   4c774   rc           vD             <- vA vB
vcmpgtsh   4c838   rc           vD             <- vA vB
vcmpgtsw   4c902   rc           vD             <- vA vB
vcmpeqfp   4c198   rc           vD             <- vA vB vscr
vcmpgefp   4c454   rc           vD             <- vA vB vscr
vcmpgtfp   4c710   rc           vD             <- vA vB vscr
vcmpbfp    4c966   rc           vD             <- vA vB vscr

vmhaddshs  4m32                 vD vscr        <- vA vB vC vscr
vmhraddshs 4m33                 vD vscr        <- vA vB vC vscr
vmladduhm  4m34                 vD             <- vA vB vC
vmsumubm   4m36                 vD             <- vA vB vC
vmsummbm   4m37                 vD             <- vA vB vC
vmsumuhm   4m38                 vD             <- vA vB vC
vmsumuhs   4m39                 vD vscr        <- vA vB vC vscr
vmsumshm   4m40                 vD             <- vA vB vC
vmsumshs   4m41                 vD vscr        <- vA vB vC vscr
vsel       4m42                 vD             <- vA vB vC
vperm      4m43                 vD             <- vA vB vC
vsldoi     4m44    0:400        vD             <- vA vB
vmaddfp    4m46                 vD             <- vA vB vC vscr
vnmsubfp   4m47                 vD             <- vA vB vC vscr

lvsl       31/6    0:1          vD             <- A0 B
lvsr       31/38   0:1          vD             <- A0 B
mfvrsave   31/339  spr:256 0:1  D              <- vrsave
mtvrsave   31/467  spr:256 0:1  vrsave         <- S

[load]
lvebx      31/7    0:1          vD             <- A0 B vD       A0+B:1
lvehx      31/39   0:1          vD             <- A0 B vD       A0+B:2
lvewx      31/71   0:1          vD             <- A0 B vD       A0+B:4
lvx        31/103  0:1          vD             <- A0 B          A0+B:16
lvxl       31/359  0:1          vD             <- A0 B          A0+B:16

[store]
stvebx     31/135  0:1                         <- vS A0 B       A0+B:1
stvehx     31/167  0:1                         <- vS A0 B       A0+B:2
stvewx     31/199  0:1                         <- vS A0 B       A0+B:4
stvx       31/231  0:1                         <- vS A0 B       A0+B:16
stvxl      31/487  0:1                         <- vS A0 B       A0+B:16

[system]
dst        31/342  0:03800001 A!0              <- A B
dstt       31/342  1:02000000 0:01800001 A!0   <- A B
dstst      31/374  0:03800001 A!0              <- A B
dststt     31/374  1:02000000 0:01800001 A!0   <- A B
dss        31/822  0:039ff801                  <-
dssall     31/822  1:02000000 0:01fff801       <-
"""
