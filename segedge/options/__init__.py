"""What a user may ask of a run, as values: effect, cleaning, smoothing, windows, style.

Knows the card and the frame's options; computes nothing.
"""
