"""Name CPUs by their processor version register (PVR), for people only: nothing is decided by it here."""

from __future__ import annotations

__all__ = ["described"]

# The upper half of PVR, from the models' manuals.
_VERSIONS = {
    0x0001: "601",
    0x0003: "603",
    0x0004: "604",
    0x0006: "603e",
    0x0007: "603ev",
    0x0008: "750",
    0x0009: "604e",
    0x000A: "604r",
    0x000C: "7400",
    0x0020: "403",
    0x0035: "POWER4",
    0x0039: "970",
    0x003C: "970FX",
    0x0044: "970MP",
    0x0050: "8xx",
    0x4011: "405GP",
    0x5091: "405GPr",
    0x5121: "405EP",
    0x7000: "750FX",
    0x7002: "750GX",
    0x8000: "7450",
    0x8001: "7455",
    0x8002: "7457",
    0x8003: "7447A",
    0x8004: "7448",
    0x800C: "7410",
    0x8020: "e500v1",
    0x8021: "e500v2",
    0x8023: "e500mc",
    0x8024: "e5500",
    0x8040: "e6500",
    0x8081: "603e with a G2 core",
    0x8082: "G2LE",
    0x8083: "e300c1",
    0x8084: "e300c2",
    0x8085: "e300c3",
    0x8086: "e300c4",
}
# Those that share an upper half: 440 cores of several makers (mask, value).
_CORES = (
    (0xFFF0_0000, 0x4220_0000, "440"),
    (0xFFFF_0000, 0x5322_0000, "440"),
    (0xFFF0_0000, 0x7FF0_0000, "440"),
)


def described(pvr: int) -> str:
    """Return what to call a CPU: ``PVR 0x80210030, e500v2``.

    >>> described(0x80210030)
    'PVR 0x80210030, e500v2'
    """
    if not pvr:
        return "PVR not told"
    name = _VERSIONS.get(pvr >> 16)
    cores = (core for mask, value, core in _CORES if pvr & mask == value)
    name = name or next(cores, None)
    return f"PVR 0x{pvr:08x}" + (f", {name}" if name else "")
