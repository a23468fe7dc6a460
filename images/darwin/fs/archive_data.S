/* The boot archive, made by build.py: programs and kernel extensions. */
        .data
        .p2align 5
        .globl  _boot_archive
        .globl  _boot_archive_end
_boot_archive:
        .incbin "boot.tar"
_boot_archive_end:
        .p2align 2
