"""Precisions written into the graph: fp16 by types, int8 by Q/DQ nodes, and their measure.

Builds on `convert`; engines build on it.
"""
