"""Endings: which files are videos, images, facts; what reads and what writes share."""

from typing import Literal

Codec = Literal["h264", "h265", "av1", "vp9"]
"""What a video holds."""


Masks = Literal["labels", "palette", "panoptic"]
"""What folders and images may hold in place of overlays."""


SINK_VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm")
"""Endings that can be written as video."""


OVERLAY_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
"""Endings that can be written as overlay images."""


ALPHA_SUFFIXES = (".png", ".webp", ".tif", ".tiff")
"""Those of them that hold opacity."""


JSON_SUFFIXES = (".jsonl", ".ndjson")
"""Endings that are written as JSON lines."""


DEFAULT_FPS = 10.0
"""Rate of a video made from still images."""


VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts",
    ".wmv", ".flv", ".ogv", ".3gp", ".h264", ".264", ".h265", ".hevc", ".265", ".mjpeg", ".mjpg",
    ".y4m", ".gif",
)  # fmt: skip
"""Lower-case endings that are taken for videos."""


IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".jp2",
)  # fmt: skip
"""Lower-case endings that are taken for images."""
