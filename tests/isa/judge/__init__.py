"""QEMU's own CPU as the judge of what instructions read and write."""
