"""Sinks: videos, images, contact sheets, JSON lines, segments, windows, and what opens each.

Write what results hand them; import `video`, `encode`, `push` and `machine`, no segmenter.
"""
