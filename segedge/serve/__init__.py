"""A model as a repository of the Triton Inference Server, and the steps that run inside it."""
