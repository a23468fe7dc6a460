"""Linux as a guest's kernel."""

from kgdbpatch.personality.linux.configuration import kernel_option
from kgdbpatch.personality.linux.linux import Linux

__all__ = ["Linux", "kernel_option"]
