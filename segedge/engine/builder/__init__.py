"""From an ONNX file to an engine: network, shapes, builder, log, progress, errors in words."""
