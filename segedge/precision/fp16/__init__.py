"""fp16 in the graph: what stays fp32, the retyping, the check against fp32.

Imports `precision` and `card`; no runtime of the network but ONNX Runtime, for the check.
"""
