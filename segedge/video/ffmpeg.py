"""The door to PyAV: ``from segedge.video.ffmpeg import av``, which loads OpenCV before it.

PyAV's wheels bring a libxcb of their own, and OpenCV's windows hang for good where that one was
loaded first (https://github.com/PyAV-Org/PyAV/issues/978).
"""

from pathlib import Path

import cv2  # noqa: F401

# isort: split
import av
import av.codec.codec
import av.error
import av.filter
import av.logging
import av.video.reformatter

__all__ = ["av", "local"]


def local(path: Path) -> str:
    """A file's name for `av.open`: ``12:30.mp4`` alone would be an address of the scheme 12."""
    return str(path.absolute())
