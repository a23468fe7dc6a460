"""Run keystone where it can crash: in, lines of ``hex-address text``; out, hex bytes or ``! message``."""

from __future__ import annotations

import sys

import keystone

__all__ = ["main"]


def main() -> None:
    """Assemble standard input, line by line, until its end."""
    engine = keystone.Ks(keystone.KS_ARCH_PPC, keystone.KS_MODE_PPC32 | keystone.KS_MODE_BIG_ENDIAN)
    for line in sys.stdin:
        address, _, text = line.rstrip("\n").partition(" ")
        try:
            encoding, _ = engine.asm(text, int(address, 16))
        except keystone.KsError as error:
            answer = f"! {error.message}"
        else:
            answer = bytes(encoding or ()).hex()
        print(answer, flush=True)


if __name__ == "__main__":
    main()
