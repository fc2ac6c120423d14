"""Loaders that users would pick in place of the CPU stream, one file each, for comparisons on the same clips."""
