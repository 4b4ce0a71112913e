"""How right a model is: metrics from counts of pixels, and how far two models agree.

Runs a segmenter over a data set or images; imports `segment`, `datasets` and `report`.
"""
