"""Sinks: videos, images, contact sheets, JSON lines, segments, windows, and what opens each."""
