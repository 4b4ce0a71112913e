"""Frame: one picture on its way through the pipeline, with where and when it came from."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.frames.timing import StageTimes


@dataclass(frozen=True)
class MotionNote:
    """How a frame of a video got its logits; travels with the frame."""

    is_key: bool
    """Whether the network saw it."""
    frames: int = 0
    """Frames to the nearest key; 0 for a key."""
    key_age_ms: float = 0.0
    """Capture of the newest key in it until its own; negative where that key comes later."""
    agreement: float | None = None
    """A key's: share of clear pixels away from borders where carrying would have said the same."""
    agreement_all: float | None = None
    """The same over all points."""


@dataclass(frozen=True)
class DriftNote:
    """How the frames up to here compare with those that the network knows."""

    confidence: float
    """Mean probability of the label over the last frames, 0..1."""
    familiar: float
    """The same when the network was exported or adapted."""
    when: str
    """``exported`` or ``adapted``."""
    differs: bool
    """Whether that is less than single images differ."""


@dataclass
class Frame:
    """One image of a source."""

    image_hwc: NDArray[np.uint8]
    """H x W x 3 uint8, BGR, as OpenCV gives it."""
    index: int = 0
    """Position in the source, from 0; gaps are dropped frames."""
    name: str = ""
    """Where it is from: the image's path, or the video's path or address."""
    pts_seconds: float | None = None
    """Presentation time in the source's own clock; None for still images."""
    captured_ns: int = field(default_factory=time.monotonic_ns)
    """When it entered the program, on the monotonic clock: latency is measured from here."""
    stream: int | None = 0
    """Which sequence of frames it belongs to, for smoothing over time; None: to none."""
    motion_vectors: NDArray[Any] | None = None
    """What the codec says of the motion to other frames (FFmpeg's records), where it is asked."""
    motion: MotionNote | None = None
    """How it got its logits, where they are carried from frame to frame."""
    drift: DriftNote | None = None
    """How the source's last frames compare with those that the network knows, where it does."""
    times: StageTimes = field(default_factory=StageTimes)
    """Stage times, travelling with the frame."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.image_hwc.shape[0], self.image_hwc.shape[1]
