"""QEMU as a managed process and GDB as its debugger; knows nothing of kernels and patches."""
