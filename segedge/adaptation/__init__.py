"""A network meets another camera: statistics of its unlabelled images, folded back into weights.

Knows cards, graphs, images and how accuracy is measured; imports no torch and runs on ONNX Runtime.
"""
