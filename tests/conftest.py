"""For all tests: OpenCV before PyAV, as segedge loads them; see segedge/video/ffmpeg.py."""

import cv2  # noqa: F401
