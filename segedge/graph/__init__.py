"""ONNX graphs as ``onnx_ir.Model``, for everyone who reads or rewrites one: the one graph kit.

Protobufs are its border: files, ONNX Runtime, and onnx's checker and inference. Imports `card` and
`machine`.
"""
