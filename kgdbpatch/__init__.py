"""Change a PowerPC kernel while it runs in ``qemu-system-ppc``."""

__version__ = "0.1.0"
