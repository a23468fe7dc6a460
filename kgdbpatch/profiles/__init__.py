"""Profiles of a whole kernel: what is compiled for them, and what was gathered read and laid out. Pure."""
