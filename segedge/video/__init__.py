"""Where frames come from and where results go: sources, sinks, and the files behind them."""

# Before PyAV, which any file here may load next: PyAV's wheels bring a libxcb of their own, and
# OpenCV's windows hang for good where that one was loaded first
# (https://github.com/PyAV-Org/PyAV/issues/978).
import cv2  # noqa: F401
