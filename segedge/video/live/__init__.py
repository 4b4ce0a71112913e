"""Sources that do not wait: cameras, network streams, GStreamer, and their reconnection.

A `Connection` each behind one `LiveSource`; imports `video` and `frames`.
"""
