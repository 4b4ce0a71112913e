"""Optical flow: OpenCV's DIS (Kroeger et al. 2016, arXiv 1603.03590) on small grey images."""

from __future__ import annotations

from threading import local
from typing import Any

import cv2
import numpy as np

from segedge.motion.field import Displacement
from segedge.motion.grey import Grey, one_thread

FINE, COARSE = 5, 6
"""Strides of patches of 8 pixels. 4, the preset's, takes half as long again as 5 for 0.07 of mIoU;
6 takes 0.78 of the time. Between two keys that costs 0.06 of mIoU at most, after one up to 0.2."""


_ITERATIONS = 10
"""Of each patch; the preset's 12 take 5 % longer for 0.03 of mIoU."""


class Flow:
    """Finds the motion between two frames. Safe from several threads at once."""

    def __init__(self, stride: int = FINE) -> None:
        """``stride`` is `FINE` or `COARSE`."""
        self._stride = stride
        self._own = local()

    def step(self, grey: Grey, before: Grey) -> Displacement:
        """The motion from a frame to the one before it."""
        with one_thread():
            flow = self._flow.calc(grey.means, before.means, None)
        flow[..., 0] *= grey.frame.width / grey.blocks.width
        flow[..., 1] *= grey.frame.height / grey.blocks.height
        return np.asarray(flow, np.float32)

    @property
    def _flow(self) -> Any:
        """OpenCV's object holds scratch, so every thread has its own."""
        flow = getattr(self._own, "flow", None)
        if flow is None:
            flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
            flow.setFinestScale(0)
            flow.setGradientDescentIterations(_ITERATIONS)
            flow.setPatchStride(self._stride)
            self._own.flow = flow
        return flow
