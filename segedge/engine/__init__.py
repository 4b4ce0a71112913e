"""TensorRT engines: flavours and versions, the file and its header, the cache, what is in one.

Builds on `convert` and `precision`; backends run what is made here.
"""
