"""How far a camera is from the images that a network knows, by figures of its answers alone.

Knows cards and frames; computes on the logit grid, in NumPy.
"""
