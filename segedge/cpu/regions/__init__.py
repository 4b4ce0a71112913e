"""Connected regions of a label map on the CPU: components, cleaning, the majority filter.

Imports `cpu` and its kernels.
"""
