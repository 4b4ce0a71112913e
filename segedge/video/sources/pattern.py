"""PatternSource: a generated moving picture, the same in every run: a camera for every machine."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from segedge.errors import SegedgeError, UsageError
from segedge.frames.frame import Frame
from segedge.frames.protocols import SourceFailure, SourceInfo
from segedge.video.options import SourceOptions, parse_size
from segedge.video.sources.pace import Pacer

PREFIX = "test:"

_DEFAULT_SIZE = (720, 1280)
_DEFAULT_FPS = 30.0
_CELLS = 16
"""Squares in the upper left corner: the frame's index in binary, most significant first."""


class PatternSource:
    """A road scene of plain shapes that move with the frame's index."""

    def __init__(
        self,
        *,
        size: tuple[int, int] = _DEFAULT_SIZE,
        fps: float = _DEFAULT_FPS,
        frame_count: int | None = None,
        live: bool = True,
        name: str = "test:",
        pacer: Pacer | None = None,
    ) -> None:
        """Draw what does not move; ``live``: at the rate, not as fast as frames are taken."""
        self.info = SourceInfo(name, "video", size, fps, frame_count, live)
        self.failures: Sequence[SourceFailure] = ()
        self._pacer = pacer or Pacer()
        self._background = _background(size)

    def frames(self) -> Iterator[Frame]:
        """The frames, from the first; of a live one `captured_ns` is when each was due."""
        self._pacer.restart()
        fps, count, index = self.info.fps or _DEFAULT_FPS, self.info.frame_count, 0
        while not self._pacer.is_closed() and (count is None or index < count):
            due_ns = self._pacer.until(index / fps) if self.info.live else None
            if self._pacer.is_closed():
                return
            start_ns = time.monotonic_ns()
            image = self.image(index)
            frame = Frame(image, index, self.info.name, index / fps, due_ns or start_ns)
            frame.times.add("decode", (time.monotonic_ns() - start_ns) / 1e6)
            yield frame
            index += 1

    def close(self) -> None:
        """End a running iteration, also one that waits."""
        self._pacer.close()

    def image(self, index: int) -> NDArray[np.uint8]:
        """The picture of an index: H x W x 3 uint8 BGR."""
        image: NDArray[np.uint8] = self._background.copy()
        height, width = image.shape[:2]
        unit = max(2, height // 12)
        for lane, (speed, colour) in enumerate([(5, (40, 40, 200)), (-3, (200, 90, 40))]):
            x = (index * speed * width // 640 + lane * width // 2) % (width + 3 * unit) - 3 * unit
            y = int(height * (0.60 + 0.17 * lane))
            cv2.rectangle(image, (x, y), (x + 3 * unit, y + unit), colour, -1)
        centre = (int(width * (0.5 + 0.4 * np.sin(index / 30))), height // 5)
        cv2.circle(image, centre, unit // 2, (80, 220, 250), -1)
        _draw_index(image, index)
        return image


def index_of(image: NDArray[np.uint8]) -> int:
    """The index that a picture shows, modulo 65536; it survives encoding."""
    side = _cell_side(image)
    bits = [
        int(image[side // 2, k * side + side // 2].mean() > 127)
        for k in range(min(_CELLS, image.shape[1] // side))
    ]
    return int("".join(map(str, bits)), 2)


def pattern_source(
    spec: str, *, options: SourceOptions | None = None, pacer: Pacer | None = None
) -> PatternSource:
    """The pattern that ``test:720p30``, ``test:1280x720@30`` or ``test:720p30:300`` names.

    With a number of frames it is a recording: as fast as possible unless ``options.pace``;
    without one it is a camera.
    """
    options = options or SourceOptions()
    rest = spec.removeprefix(PREFIX)
    match = re.fullmatch(r"(?:(\d+x\d+|\d+p|4k)?(?:@?(\d+(?:\.\d+)?))?)?(?::(\d+))?", rest)
    try:
        if match is None:
            raise UsageError(repr(rest))
        size = parse_size(match[1]) if match[1] else _DEFAULT_SIZE
        fps = float(match[2]) if match[2] else _DEFAULT_FPS
        checked = SourceOptions(size=options.size or size, fps=options.fps or fps)
    except SegedgeError as error:
        raise UsageError(
            f"no test pattern {spec!r}",
            facts={"found": error.headline, "expected": "test:SIZE@RATE:FRAMES, parts may lack"},
            fix="test:720p30, test:1280x720@30, test:720p30:300",
        ) from None
    count = int(match[3]) if match[3] else None
    live = count is None or options.pace
    return PatternSource(
        size=checked.size or size,
        fps=checked.fps or fps,
        frame_count=count,
        live=live,
        name=spec,
        pacer=pacer,
    )


def _background(size: tuple[int, int]) -> NDArray[np.uint8]:
    """Sky, trees, road with a line."""
    height, width = size
    image = np.empty((height, width, 3), np.uint8)
    rows = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    image[:] = (np.array([235, 190, 140]) - 60 * rows).astype(np.uint8)[:, None]
    image[int(0.40 * height) : int(0.52 * height)] = (60, 120, 50)
    image[int(0.52 * height) :] = (110, 105, 100)
    line = int(0.74 * height)
    image[line : line + max(1, height // 60)] = (240, 240, 240)
    return image


def _cell_side(image: NDArray[np.uint8]) -> int:
    height, width = image.shape[:2]
    return int(max(1, min(height // 12, width // (_CELLS + 1))))


def _draw_index(image: NDArray[np.uint8], index: int) -> None:
    side = _cell_side(image)
    for k in range(min(_CELLS, image.shape[1] // side)):
        bit = index >> (min(_CELLS, image.shape[1] // side) - 1 - k) & 1
        image[:side, k * side : (k + 1) * side] = 255 * bit
