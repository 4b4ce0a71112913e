"""Inference libraries behind one protocol: tensors in, logits out."""
