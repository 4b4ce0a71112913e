"""The machine at hand: optional libraries, GPUs, its environment, signals, files written whole.

Imports errors only.
"""
