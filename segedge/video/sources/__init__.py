"""Sources of files: images, folders, videos, parts, the test pattern, and what opens each."""
