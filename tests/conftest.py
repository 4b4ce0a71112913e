"""For all tests: OpenCV before PyAV, as segedge loads them; see segedge/video/__init__.py."""

import cv2  # noqa: F401
