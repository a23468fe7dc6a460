"""Assemble, compile and link for PowerPC: knows nothing of patches."""
