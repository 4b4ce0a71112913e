"""Optical flow: OpenCV's DIS (Kroeger et al. 2016, arXiv 1603.03590) on small grey images."""

from __future__ import annotations

from threading import local
from typing import Any

import cv2
import numpy as np

from segedge.card.geometry import Size
from segedge.motion.field import MotionField
from segedge.motion.grey import Grey, field_of, one_thread

_FINEST_SCALE = 1
"""The flow is found up to half of the grey image's size."""
_PATCH_STRIDE = 5
"""Of patches of 8 pixels; 4, the preset's, takes half as long again for 0.07 of mIoU."""


class Flow:
    """Finds the motion between two frames. Safe from several threads at once."""

    def __init__(self) -> None:
        self._own = local()

    def field(self, grey: Grey, key: Grey, frame: Size) -> MotionField:
        """The motion from a frame of this size to a key, by the grey images of both."""
        with one_thread():
            flow = self._flow.calc(grey, key, None)
        return field_of(np.asarray(flow, np.float32), grey, key, frame)

    @property
    def _flow(self) -> Any:
        """OpenCV's object holds scratch, so every thread has its own."""
        flow = getattr(self._own, "flow", None)
        if flow is None:
            flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
            flow.setFinestScale(_FINEST_SCALE)
            flow.setPatchStride(_PATCH_STRIDE)
            self._own.flow = flow
        return flow
