"""Sources of files: images, folders, videos, parts, the test pattern, and what opens each.

Give frames; import `video` and `video.live`, no results.
"""
