"""Passes over an ONNX graph: simplify, clean, cut the tail, put it back.

Each says whether it changed anything; imports `card` and the graph kit.
"""
