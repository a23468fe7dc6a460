"""Every form of displaced instruction, run on a bare CPU as it was and as it was patched."""
