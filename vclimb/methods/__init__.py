"""Continual-learning methods, one file each, and the formulas that they share.

Methods import no trainer and no stream. Where the benchmark's released code computes something else than the paper,
the released way is a function named `released_...`.
"""
