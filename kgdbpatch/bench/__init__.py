"""Measure what kgdbpatch costs: the subcommands of ``scripts/bench``."""
