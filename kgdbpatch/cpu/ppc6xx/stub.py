"""The component's machine code of the 6xx."""

from __future__ import annotations

from pathlib import Path

from kgdbpatch.cpu.stub import Stub
from kgdbpatch.isa import encode

__all__ = ["CODE", "STUB"]

CODE = Path(__file__).with_name("stub.bin").read_bytes()
STUB = Stub(CODE, encode.rfi(), space=0)  # real mode: MSR[IR] and MSR[DR] are 0
