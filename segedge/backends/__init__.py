"""Inference libraries behind one protocol: tensors in, logits out.

Each file translates one library's exceptions; imports `card`, `engine` and `cuda.runtime`, and
knows nothing about images.
"""
