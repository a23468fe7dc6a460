"""Linux as a guest's kernel."""

from kgdbpatch.personality.linux.linux import Linux, kernel_option

__all__ = ["Linux", "kernel_option"]
