"""The CUDA twin: preprocessing, tail and overlay as CUDA kernels compiled at run time.

Computes what `reference` says, with the names and arguments of `cpu`; imports `card`, `options`
and `cuda.runtime`, no backend.
"""
