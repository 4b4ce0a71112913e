"""The live view: a page in the browser that shows what the pipeline sees, and how fast.

A sink with a server; imports `card`, `frames` and `machine`, no pipeline.
"""
