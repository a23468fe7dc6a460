"""The command line: words and pictures for people, built on the facade."""

from __future__ import annotations

import gc
import os
import sys

# no command needs what a start would cost: garbage looked for in tables that stay, threads for BLAS
gc.set_threshold(100_000, 20, 20)
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

try:
    from kgdbpatch.cli.main import main
except KeyboardInterrupt:  # Ctrl-C while it starts
    sys.exit(130)

__all__ = ["main"]
