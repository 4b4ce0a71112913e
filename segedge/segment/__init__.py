"""One frame in, one `Result` out: card + preprocessing + backend + tail, on the CPU or a GPU.

Imports everything up to `backends`, and no thread.
"""
