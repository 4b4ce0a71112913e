"""What becomes of an image on its way into an encoder: one size, 4:2:0 colour, a time."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from segedge.video.ffmpeg import av
from segedge.video.upright import oblong_size

BT601_MATRIX, LIMITED_RANGE = 6, 1
"""What OpenCV's BGR2YUV_I420 makes, in the numbers of ITU-T H.273 and FFmpeg."""


class Clock:
    """Times in seconds to the file's ticks, strictly increasing from 0."""

    def __init__(self, fps: float) -> None:
        self.rate = Fraction(fps).limit_denominator(1001)
        # A multiple of the rate's numerator puts every nominal time exactly on a tick; 10 kHz and
        # more keep those of a variable rate within 0.05 ms.
        per_second = self.rate.numerator * -(-10_000 // self.rate.numerator)
        self.time_base = Fraction(1, per_second)
        self._per_second = per_second
        self._step = max(1, round(per_second / self.rate))
        self._shift: int | None = None
        self._last = -self._step

    def ticks(self, pts_seconds: float | None) -> tuple[int, int]:
        """(Presentation time, nominal duration) of the next frame, in ticks."""
        if pts_seconds is None:
            self._last += self._step
            return self._last, self._step
        source = round(pts_seconds * self._per_second)
        if self._shift is None or source + self._shift <= self._last:
            self._shift = self._last + self._step - source
        self._last = source + self._shift
        return self._last, self._step


class Fitter:
    """Images at one size, which the first one sets, padded to even sides.

    Images have square pixels; where the file's are ``aspect`` times as wide as high, pictures are
    brought to them on their way to the encoder.
    """

    def __init__(self, name: str, aspect: Fraction = Fraction(1)) -> None:
        self._name = name
        self._aspect = aspect
        self._reformatter = av.video.reformatter.VideoReformatter()
        self.size = (0, 0)
        """(height, width) of the first image; zeros before it."""
        self.notes: list[str] = []
        self._told = False

    @property
    def even_size(self) -> tuple[int, int]:
        """(height, width) as encoded: 4:2:0 colour needs even sides."""
        return oblong_size(*self.size, self._aspect)

    def __call__(self, image: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
        """The image, letterboxed where its size is another; the first of those is noted."""
        if self.size == (0, 0):
            self.size = image.shape[:2]
        height, width = self.size
        if image.shape[:2] != self.size:
            if not self._told:
                self._told = True
                found = f"{image.shape[1]}x{image.shape[0]}"
                self.notes.append(
                    f"{self._name}: frame {index} is {found}; frames of another size than "
                    f"{width}x{height} are letterboxed onto it"
                )
            image = letterboxed(image, height, width)
        if height % 2 or width % 2:
            edge = cv2.BORDER_REPLICATE
            image = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, edge)
        return image

    def picture(self, image: NDArray[np.uint8], index: int) -> Any:
        """What the encoder takes of an image: 4:2:0, at `even_size`."""
        picture = to_yuv(self(image, index))
        if self._aspect == 1:
            return picture
        height, width = self.even_size
        return self._reformatter.reformat(
            picture, width, height, interpolation="AREA",
            src_colorspace=BT601_MATRIX, dst_colorspace=BT601_MATRIX,
            src_color_range=LIMITED_RANGE, dst_color_range=LIMITED_RANGE,
        )  # fmt: skip


def to_yuv(image: NDArray[np.uint8]) -> Any:
    """A picture in 4:2:0 from even-sized BGR, or with opacity from BGR and opacity.

    By OpenCV: 1.7 ms at 1080p and without bias, where FFmpeg's scaler takes 3.3 ms and darkens
    red and blue by 1.5 levels. Planes are copied here because `VideoFrame.from_numpy_buffer` of
    PyAV 18 loses rows where the height is no multiple of 4, and `from_ndarray` is slower.
    """
    height, width = image.shape[:2]
    has_alpha = image.shape[2] == 4
    convert = cv2.COLOR_BGRA2YUV_I420 if has_alpha else cv2.COLOR_BGR2YUV_I420
    samples = cv2.cvtColor(image, convert).reshape(-1)
    if has_alpha:
        samples = np.concatenate([samples, image[..., 3].reshape(-1)])
    picture = av.VideoFrame(width, height, "yuva420p" if has_alpha else "yuv420p")
    start = 0
    for plane in picture.planes:
        end = start + plane.height * plane.width
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        source = samples[start:end].reshape(plane.height, plane.width)
        rows[: plane.height, : plane.width] = source
        start = end
    picture.colorspace, picture.color_range = BT601_MATRIX, LIMITED_RANGE
    return picture


def over_checkerboard(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture with opacity as screens show it: over grey squares. BGR comes back as it is."""
    if image.shape[2] == 3:
        return image
    height, width = image.shape[:2]
    rows, columns = np.arange(height) // 16 % 2, np.arange(width) // 16 % 2
    squares = np.where(rows[:, None] ^ columns, 153, 102).astype(np.float32)
    share = image[..., 3:].astype(np.float32) / np.float32(255)
    mixed = image[..., :3] * share + squares[..., None] * (1 - share)
    return np.asarray(mixed + np.float32(0.5), np.uint8)


def letterboxed(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The whole image, as large as fits, centred on black."""
    scale = min(height / image.shape[0], width / image.shape[1])
    inner = (max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale)))
    shrinks = scale < 1
    resized = cv2.resize(
        image, inner[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    canvas = np.zeros((height, width, image.shape[2]), np.uint8)
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    canvas[top : top + inner[0], left : left + inner[1]] = resized
    return canvas
