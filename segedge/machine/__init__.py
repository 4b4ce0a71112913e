"""The machine at hand: optional libraries, GPUs, its environment, files that are written whole.

Imports errors only.
"""
