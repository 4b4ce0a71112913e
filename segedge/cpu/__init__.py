"""The CPU twin: preprocessing, tail and overlay as Numba kernels over bands of rows.

Computes what `reference` says, with the names and arguments of `cuda`; imports `card`, `options`
and its own kernels.
"""
