"""What a model file says about itself: the card, its labels and geometry, the dialects of others.

Imports errors and `machine` only; everything above may ask it.
"""
