"""From an ONNX file to an engine: network, shapes, builder, log, progress, errors in words.

Knows TensorRT's parser and builder; imports `engine`, `convert` and `precision.fp16`.
"""
