"""Analyse code held in arrays: flow, live registers, hazards, whole images. No I/O here."""
