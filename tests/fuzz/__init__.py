"""Mutated files for every loader and `predict`; see `run`."""
