"""Numba kernels over bands of rows, one file a question; called by the twins one floor up.

Imports NumPy, Numba and each other, no card and no frame.
"""
