"""List the instructions that the e500 has besides, or otherwise: of Book E, SPE, embedded floating point.

See `table` for the notation. Sources: "EREF: A Programmer's Reference Manual for Freescale Embedded
Processors", "Signal Processing Engine (SPE) Programming Environments Manual". `e500` puts them in front of
the table of the plain 7xx for a CPU that has them.
"""

from __future__ import annotations

__all__ = ["ROWS"]

# SPE's registers are the general ones with an upper half each. All upper halves, the accumulator and SPEFSCR
# are one here: "spe", which whatever changes part of it also reads.
# evldh and evldhx change all of their register; QEMU 7.2 leaves some bits as they were, so they read it.
# What an e500 calls msync and mbar are the plain table's sync and eieio.
ROWS = """
[rfi]
rfci       19/51   -D -A -B 0:1 privileged msr  <- spr msr
rfmci      19/38   -D -A -B 0:1 privileged msr  <- spr msr

[arithmetic]
isel       31a15   0:1          D      <- A0 B cE
brinc      4v527                D      <- A B
mfspefscr  31/339  spr:512 0:1  D      <- spe
mtspefscr  31/467  spr:512 0:1  spe    <- S spe

[system]
wrtee      31/131  -A -B 0:1 privileged msr         <- S msr
wrteei     31/163  -D -A 0:7801 privileged msr      <- msr
tlbivax    31/786  -D 0:1 privileged tlb            <- A0 B tlb
tlbsx      31/914  -D 0:1 privileged spr            <- A0 B spr tlb
tlbre      31/946  -D -A -B 0:1 privileged spr      <- spr tlb
tlbwe      31/978  -D -A -B 0:1 privileged tlb      <- spr tlb
mbar       31/854  -A -B 0:1                        <-
icbt       31/22   0:1                              <- A0 B
dcbtstls   31/134  0:1                              <- A0 B
dcbtls     31/166  0:1                              <- A0 B
icblc      31/230  0:1                              <- A0 B
dcblc      31/390  0:1                              <- A0 B
icbtls     31/486  0:1                              <- A0 B
mfpmr      31/334  0:1                  D           <- spr
mtpmr      31/462  0:1                  spr         <- S spr

[arithmetic]
evaddw         4v512              D spe  <- A B spe
evaddiw        4v514              D spe  <- B spe
evsubfw        4v516              D spe  <- A B spe
evsubifw       4v518              D spe  <- B spe
evabs          4v520   -B         D spe  <- A spe
evneg          4v521   -B         D spe  <- A spe
evextsb        4v522   -B         D spe  <- A spe
evextsh        4v523   -B         D spe  <- A spe
evrndw         4v524   -B         D spe  <- A spe
evcntlzw       4v525   -B         D spe  <- A spe
evcntlsw       4v526   -B         D spe  <- A spe
evand          4v529              D spe  <- A B spe
evandc         4v530              D spe  <- A B spe
evxor          4v534              D spe  <- A B spe
evor           4v535              D spe  <- A B spe
evnor          4v536              D spe  <- A B spe
eveqv          4v537              D spe  <- A B spe
evorc          4v539              D spe  <- A B spe
evnand         4v542              D spe  <- A B spe
evsrwu         4v544              D spe  <- A B spe
evsrws         4v545              D spe  <- A B spe
evsrwiu        4v546              D spe  <- A spe
evsrwis        4v547              D spe  <- A spe
evslw          4v548              D spe  <- A B spe
evslwi         4v550              D spe  <- A spe
evrlw          4v552              D spe  <- A B spe
evsplati       4v553   -B         D spe  <- spe
evrlwi         4v554              D spe  <- A spe
evsplatfi      4v555   -B         D spe  <- spe
evmergehi      4v556              D spe  <- spe
evmergelo      4v557              D spe  <- A B spe
evmergehilo    4v558              D spe  <- B spe
evmergelohi    4v559              D spe  <- A spe
evcmpgtu       4v560   0:00600000 cD     <- A B spe
evcmpgts       4v561   0:00600000 cD     <- A B spe
evcmpltu       4v562   0:00600000 cD     <- A B spe
evcmplts       4v563   0:00600000 cD     <- A B spe
evcmpeq        4v564   0:00600000 cD     <- A B spe
evsel          4e79               D spe  <- A B cO spe
evfsadd        4v640              D spe  <- A B spe
evfssub        4v641              D spe  <- A B spe
evfsmadd       4v642              D spe  <- A B spe
evfsmsub       4v643              D spe  <- A B spe
evfsabs        4v644   -B         D spe  <- A spe
evfsnabs       4v645   -B         D spe  <- A spe
evfsneg        4v646   -B         D spe  <- A spe
evfsmul        4v648              D spe  <- A B spe
evfsdiv        4v649              D spe  <- A B spe
evfsnmadd      4v650              D spe  <- A B spe
evfsnmsub      4v651              D spe  <- A B spe
evfscmpgt      4v652   0:00600000 cD spe <- A B spe
evfscmplt      4v653   0:00600000 cD spe <- A B spe
evfscmpeq      4v654   0:00600000 cD spe <- A B spe
evfscfui       4v656   -A         D spe  <- B spe
evfscfsi       4v657   -A         D spe  <- B spe
evfscfuf       4v658   -A         D spe  <- B spe
evfscfsf       4v659   -A         D spe  <- B spe
evfsctui       4v660   -A         D spe  <- B spe
evfsctsi       4v661   -A         D spe  <- B spe
evfsctuf       4v662   -A         D spe  <- B spe
evfsctsf       4v663   -A         D spe  <- B spe
evfsctuiz      4v664   -A         D spe  <- B spe
evfsctsiz      4v666   -A         D spe  <- B spe
evfststgt      4v668   0:00600000 cD spe <- A B spe
evfststlt      4v669   0:00600000 cD spe <- A B spe
evfststeq      4v670   0:00600000 cD spe <- A B spe
efsadd         4v704              D spe  <- A B spe
efssub         4v705              D spe  <- A B spe
efsabs         4v708   -B         D spe  <- A spe
efsnabs        4v709   -B         D spe  <- A spe
efsneg         4v710   -B         D spe  <- A spe
efsmul         4v712              D spe  <- A B spe
efsdiv         4v713              D spe  <- A B spe
efscmpgt       4v716   0:00600000 cD spe <- A B spe
efscmplt       4v717   0:00600000 cD spe <- A B spe
efscmpeq       4v718   0:00600000 cD spe <- A B spe
efscfd         4v719   -A         D spe  <- B spe
efscfui        4v720   -A         D spe  <- B spe
efscfsi        4v721   -A         D spe  <- B spe
efscfuf        4v722   -A         D spe  <- B spe
efscfsf        4v723   -A         D spe  <- B spe
efsctui        4v724   -A         D spe  <- B spe
efsctsi        4v725   -A         D spe  <- B spe
efsctuf        4v726   -A         D spe  <- B spe
efsctsf        4v727   -A         D spe  <- B spe
efsctuiz       4v728   -A         D spe  <- B spe
efsctsiz       4v730   -A         D spe  <- B spe
efststgt       4v732   0:00600000 cD spe <- A B spe
efststlt       4v733   0:00600000 cD spe <- A B spe
efststeq       4v734   0:00600000 cD spe <- A B spe
efdadd         4v736              D spe  <- A B spe
efdsub         4v737              D spe  <- A B spe
efdcfuid       4v738   -A         D spe  <- B spe
efdcfsid       4v739   -A         D spe  <- B spe
efdabs         4v740   -B         D spe  <- A spe
efdnabs        4v741   -B         D spe  <- A spe
efdneg         4v742   -B         D spe  <- A spe
efdmul         4v744              D spe  <- A B spe
efddiv         4v745              D spe  <- A B spe
efdctuidz      4v746   -A         D spe  <- B spe
efdctsidz      4v747   -A         D spe  <- B spe
efdcmpgt       4v748   0:00600000 cD spe <- A B spe
efdcmplt       4v749   0:00600000 cD spe <- A B spe
efdcmpeq       4v750   0:00600000 cD spe <- A B spe
efdcfs         4v751   -A         D spe  <- B spe
efdcfui        4v752   -A         D spe  <- B spe
efdcfsi        4v753   -A         D spe  <- B spe
efdcfuf        4v754   -A         D spe  <- B spe
efdcfsf        4v755   -A         D spe  <- B spe
efdctui        4v756   -A         D spe  <- B spe
efdctsi        4v757   -A         D spe  <- B spe
efdctuf        4v758   -A         D spe  <- B spe
efdctsf        4v759   -A         D spe  <- B spe
efdctuiz       4v760   -A         D spe  <- B spe
efdctsiz       4v762   -A         D spe  <- B spe
efdtstgt       4v764   0:00600000 cD spe <- A B spe
efdtstlt       4v765   0:00600000 cD spe <- A B spe
efdtsteq       4v766   0:00600000 cD spe <- A B spe
evmhessf       4v1027             D spe  <- A B spe
evmhossf       4v1031             D spe  <- A B spe
evmheumi       4v1032             D spe  <- A B spe
evmhesmi       4v1033             D spe  <- A B spe
evmhesmf       4v1035             D spe  <- A B spe
evmhoumi       4v1036             D spe  <- A B spe
evmhosmi       4v1037             D spe  <- A B spe
evmhosmf       4v1039             D spe  <- A B spe
evmhessfa      4v1059             D spe  <- A B spe
evmhossfa      4v1063             D spe  <- A B spe
evmheumia      4v1064             D spe  <- A B spe
evmhesmia      4v1065             D spe  <- A B spe
evmhesmfa      4v1067             D spe  <- A B spe
evmhoumia      4v1068             D spe  <- A B spe
evmhosmia      4v1069             D spe  <- A B spe
evmhosmfa      4v1071             D spe  <- A B spe
evmwlssf       4v1091             D spe  <- A B spe
evmwhssf       4v1095             D spe  <- A B spe
evmwlumi       4v1096             D spe  <- A B spe
evmwlsmf       4v1099             D spe  <- A B spe
evmwhumi       4v1100             D spe  <- A B spe
evmwhsmi       4v1101             D spe  <- A B spe
evmwhsmf       4v1103             D spe  <- A B spe
evmwssf        4v1107             D spe  <- A B spe
evmwumi        4v1112             D spe  <- A B spe
evmwsmi        4v1113             D spe  <- A B spe
evmwsmf        4v1115             D spe  <- A B spe
evmwlssfa      4v1123             D spe  <- A B spe
evmwhssfa      4v1127             D spe  <- A B spe
evmwlumia      4v1128             D spe  <- A B spe
evmwlsmfa      4v1131             D spe  <- A B spe
evmwhumia      4v1132             D spe  <- A B spe
evmwhsmia      4v1133             D spe  <- A B spe
evmwhsmfa      4v1135             D spe  <- A B spe
evmwssfa       4v1139             D spe  <- A B spe
evmwumia       4v1144             D spe  <- A B spe
evmwsmia       4v1145             D spe  <- A B spe
evmwsmfa       4v1147             D spe  <- A B spe
evaddusiaaw    4v1216  -B         D spe  <- A spe
evaddssiaaw    4v1217  -B         D spe  <- A spe
evsubfusiaaw   4v1218  -B         D spe  <- A spe
evsubfssiaaw   4v1219  -B         D spe  <- A spe
evmra          4v1220  -B         D spe  <- A spe
evdivws        4v1222             D spe  <- A B spe
evdivwu        4v1223             D spe  <- A B spe
evaddumiaaw    4v1224  -B         D spe  <- A spe
evaddsmiaaw    4v1225  -B         D spe  <- A spe
evsubfumiaaw   4v1226  -B         D spe  <- A spe
evsubfsmiaaw   4v1227  -B         D spe  <- A spe
evmheusiaaw    4v1280             D spe  <- A B spe
evmhessiaaw    4v1281             D spe  <- A B spe
evmhessfaaw    4v1283             D spe  <- A B spe
evmhousiaaw    4v1284             D spe  <- A B spe
evmhossiaaw    4v1285             D spe  <- A B spe
evmhossfaaw    4v1287             D spe  <- A B spe
evmheumiaaw    4v1288             D spe  <- A B spe
evmhesmiaaw    4v1289             D spe  <- A B spe
evmhesmfaaw    4v1291             D spe  <- A B spe
evmhoumiaaw    4v1292             D spe  <- A B spe
evmhosmiaaw    4v1293             D spe  <- A B spe
evmhosmfaaw    4v1295             D spe  <- A B spe
evmhegumiaa    4v1320             D spe  <- A B spe
evmhegsmiaa    4v1321             D spe  <- A B spe
evmhegsmfaa    4v1323             D spe  <- A B spe
evmhogumiaa    4v1324             D spe  <- A B spe
evmhogsmiaa    4v1325             D spe  <- A B spe
evmhogsmfaa    4v1327             D spe  <- A B spe
evmwlusiaaw    4v1344             D spe  <- A B spe
evmwlssiaaw    4v1345             D spe  <- A B spe
evmwlssfaaw    4v1347             D spe  <- A B spe
evmwhusiaa     4v1348             D spe  <- A B spe
evmwhssmaa     4v1349             D spe  <- A B spe
evmwhssfaa     4v1351             D spe  <- A B spe
evmwlumiaaw    4v1352             D spe  <- A B spe
evmwlsmiaaw    4v1353             D spe  <- A B spe
evmwlsmfaaw    4v1355             D spe  <- A B spe
evmwhumiaa     4v1356             D spe  <- A B spe
evmwhsmiaa     4v1357             D spe  <- A B spe
evmwhsmfaa     4v1359             D spe  <- A B spe
evmwssfaa      4v1363             D spe  <- A B spe
evmwumiaa      4v1368             D spe  <- A B spe
evmwsmiaa      4v1369             D spe  <- A B spe
evmwsmfaa      4v1371             D spe  <- A B spe
evmwhgumiaa    4v1380             D spe  <- A B spe
evmwhgsmiaa    4v1381             D spe  <- A B spe
evmwhgssfaa    4v1383             D spe  <- A B spe
evmwhgsmfaa    4v1391             D spe  <- A B spe
evmheusianw    4v1408             D spe  <- A B spe
evmhessianw    4v1409             D spe  <- A B spe
evmhessfanw    4v1411             D spe  <- A B spe
evmhousianw    4v1412             D spe  <- A B spe
evmhossianw    4v1413             D spe  <- A B spe
evmhossfanw    4v1415             D spe  <- A B spe
evmheumianw    4v1416             D spe  <- A B spe
evmhesmianw    4v1417             D spe  <- A B spe
evmhesmfanw    4v1419             D spe  <- A B spe
evmhoumianw    4v1420             D spe  <- A B spe
evmhosmianw    4v1421             D spe  <- A B spe
evmhosmfanw    4v1423             D spe  <- A B spe
evmhegumian    4v1448             D spe  <- A B spe
evmhegsmian    4v1449             D spe  <- A B spe
evmhegsmfan    4v1451             D spe  <- A B spe
evmhogumian    4v1452             D spe  <- A B spe
evmhogsmian    4v1453             D spe  <- A B spe
evmhogsmfan    4v1455             D spe  <- A B spe
evmwlusianw    4v1472             D spe  <- A B spe
evmwlssianw    4v1473             D spe  <- A B spe
evmwlssfanw    4v1475             D spe  <- A B spe
evmwhusian     4v1476             D spe  <- A B spe
evmwhssian     4v1477             D spe  <- A B spe
evmwlumianw    4v1480             D spe  <- A B spe
evmwlsmianw    4v1481             D spe  <- A B spe
evmwlsmfanw    4v1483             D spe  <- A B spe
evmwhumian     4v1484             D spe  <- A B spe
evmwhsmian     4v1485             D spe  <- A B spe
evmwhsmfan     4v1487             D spe  <- A B spe
evmwssfan      4v1491             D spe  <- A B spe
evmwumian      4v1496             D spe  <- A B spe
evmwsmian      4v1497             D spe  <- A B spe
evmwsmfan      4v1499             D spe  <- A B spe
evmwhgumian    4v1508             D spe  <- A B spe
evmwhgsmian    4v1509             D spe  <- A B spe
evmwhgssfan    4v1511             D spe  <- A B spe
evmwhgsmfan    4v1519             D spe  <- A B spe

[load]
evlddx         4v768              D spe  <- A0 B spe   A0+B:8
evldd          4v769              D spe  <- A0 spe     A0:8
evldwx         4v770              D spe  <- A0 B spe   A0+B:8
evldw          4v771              D spe  <- A0 spe     A0:8
evldhx         4v772              D spe  <- A0 B D spe   A0+B:8
evldh          4v773              D spe  <- A0 D spe     A0:8
evlhhesplatx   4v776              D spe  <- A0 B spe   A0+B:2
evlhhesplat    4v777              D spe  <- A0 spe     A0:2
evlhhousplatx  4v780              D spe  <- A0 B spe   A0+B:2
evlhhousplat   4v781              D spe  <- A0 spe     A0:2
evlhhossplatx  4v782              D spe  <- A0 B spe   A0+B:2
evlhhossplat   4v783              D spe  <- A0 spe     A0:2
evlwhex        4v784              D spe  <- A0 B spe   A0+B:4
evlwhe         4v785              D spe  <- A0 spe     A0:4
evlwhoux       4v788              D spe  <- A0 B spe   A0+B:4
evlwhou        4v789              D spe  <- A0 spe     A0:4
evlwhosx       4v790              D spe  <- A0 B spe   A0+B:4
evlwhos        4v791              D spe  <- A0 spe     A0:4
evlwwsplatx    4v792              D spe  <- A0 B spe   A0+B:4
evlwwsplat     4v793              D spe  <- A0 spe     A0:4
evlwhsplatx    4v796              D spe  <- A0 B spe   A0+B:4
evlwhsplat     4v797              D spe  <- A0 spe     A0:4

[store]
evstddx        4v800              <- D A0 B spe A0+B:8
evstdd         4v801              <- D A0 spe   A0:8
evstdwx        4v802              <- D A0 B spe A0+B:8
evstdw         4v803              <- D A0 spe   A0:8
evstdhx        4v804              <- D A0 B spe A0+B:8
evstdh         4v805              <- D A0 spe   A0:8
evstwhex       4v816              <- D A0 B spe A0+B:4
evstwhe        4v817              <- D A0 spe   A0:4
evstwhox       4v820              <- D A0 B spe A0+B:4
evstwho        4v821              <- D A0 spe   A0:4
evstwwex       4v824              <- A0 B spe A0+B:4
evstwwe        4v825              <- A0 spe   A0:4
evstwwox       4v828              <- D A0 B A0+B:4
evstwwo        4v829              <- D A0   A0:4
"""
