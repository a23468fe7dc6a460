"""Plan patches: assembler, C compiler and linker, displaced instruction, saves, springboard."""
