"""Continual-learning methods: their formulas as small parts that know nothing of data, optimisers or files.

Where the benchmark's released code computes something else than the paper it follows, that other way is a function of
its own, named `released_...`.
"""
