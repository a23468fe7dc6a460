"""CPU families: one package each, found by what a CPU has, never by its name alone."""
