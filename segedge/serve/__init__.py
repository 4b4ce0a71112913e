"""A model as a repository of the Triton Inference Server, and the steps that run inside it.

Writes files; the steps import `cpu` and `card` in the server's own Python.
"""
