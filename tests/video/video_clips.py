"""Clips made on the spot, and a result without a network: what the tests of video share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from segedge.frames.frame import Frame


@dataclass
class FakeResult:
    """What a sink may ask of a result."""

    labels: NDArray[Any] = field(default_factory=lambda: np.zeros((4, 6), np.uint8))
    image: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((4, 6, 3), np.uint8))
    palette_rgb: tuple[tuple[int, int, int], ...] = ((128, 64, 128), (244, 35, 232), (70, 70, 70))
    classes: tuple[str, ...] = ("road", "pavement", "building")

    @property
    def class_pixels(self) -> dict[str, int]:
        counts = np.bincount(self.labels.reshape(-1), minlength=len(self.classes))
        return {name: int(count) for name, count in zip(self.classes, counts, strict=False)}

    def wait(self) -> None:
        pass

    def overlay(self) -> NDArray[np.uint8]:
        return self.image


def write_clip(
    path: Path,
    images: Sequence[NDArray[np.uint8]],
    *,
    fps: Fraction | int = 25,
    container_options: dict[str, str] | None = None,
    times: list[float] | None = None,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
) -> Path:
    """Encode BGR images, H.264 near-lossless if no options of the encoder are given.

    ``times`` in seconds makes a variable rate.
    """
    height, width = images[0].shape[:2]
    with av.open(str(path), "w", container_options=container_options or {}) as container:
        if options is None:
            options = {"crf": "1", "bf": "0"} if codec == "libx264" else {}
        stream = container.add_stream(codec, rate=fps, options=options)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 10_000)
        for index, image in enumerate(images):
            picture = av.VideoFrame.from_ndarray(image, format="bgr24")
            if times is not None:
                picture.pts, picture.time_base = round(times[index] * 10_000), Fraction(1, 10_000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def gradient_images(count: int, height: int = 48, width: int = 64) -> list[NDArray[np.uint8]]:
    """Smooth images, each of another brightness: its mean tells the index."""
    ramp = np.linspace(0, 40, height * width * 3).reshape(height, width, 3)
    return [np.asarray(ramp + 3 * index, np.uint8) for index in range(count)]


def feed(sink: Any, images: Iterable[Any], times: Sequence[float | None] | None = None) -> None:
    """Write images as overlays, 25 a second or at these times."""
    for index, image in enumerate(images):
        pts = index / 25 if times is None else times[index]
        sink.write(Frame(image, index=index, pts_seconds=pts), FakeResult(image=image))


def noise_images(count: int, height: int = 48, width: int = 64) -> list[NDArray[np.uint8]]:
    """Images that do not compress, so that a file has some length."""
    random = np.random.default_rng(7)
    return [random.integers(0, 256, (height, width, 3), np.uint8) for _ in range(count)]
