"""Measure the project on its guests; `scripts/bench` prints what is found."""
