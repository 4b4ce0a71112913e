"""Sources that do not wait: cameras, network streams, GStreamer, and their reconnection."""
