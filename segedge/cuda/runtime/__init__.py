"""CUDA from Python: devices, arrays, compiled programs, graphs, other libraries' arrays.

Knows no picture; imports `machine` only.
"""
