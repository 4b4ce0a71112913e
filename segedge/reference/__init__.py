"""The truth in plain NumPy: what every fast path must compute, file by file like its twins.

Imports values (`card`, `options`) and nothing fast.
"""
