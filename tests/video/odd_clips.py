"""Videos with what is odd of them, made on the spot; and sinks that take them as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.video.ffmpeg import av
from segedge.video.sinks.open import SinkOptions, open_sink
from segedge.video.sources.file import VideoFile

FPS = 25
H264 = {"preset": "ultrafast", "crf": "8"}


def corners() -> NDArray[np.uint8]:
    """Top left red, top right green, bottom left blue, the rest grey: 64 x 96."""
    image = np.full((64, 96, 3), 128, np.uint8)
    image[:32, :48], image[:32, 48:], image[32:, :48] = (0, 0, 255), (0, 255, 0), (255, 0, 0)
    return image


def write(
    path: Path,
    images: Sequence[NDArray[np.uint8]],
    *,
    start: float = 0.0,
    matrix: Sequence[int] | None = None,
    aspect: Fraction | None = None,
    sound: str = "",
    interlaced: bool = False,
    color: tuple[int, int] = (2, 2),
    codec: str = "libx264",
) -> Path:
    """A video of these images, with what is odd of it."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.max_b_frames, context.gop_size = 0, 10
        context.color_primaries, context.color_trc = color
        if codec == "libx264":
            extra = {"x264-params": "tff=1"} if interlaced else {}
            context.options = {**H264, **extra}
        if aspect is not None:
            context.sample_aspect_ratio = stream.sample_aspect_ratio = aspect
        if matrix is not None:
            stream.set_display_matrix(matrix)
        audio = container.add_stream(sound, rate=48000) if sound else None
        if audio is not None:
            audio.layout = "mono"
        for number, image in enumerate(images):
            picture = av.VideoFrame.from_ndarray(image, "bgr24")
            picture.pts, picture.time_base = number + round(start * FPS), Fraction(1, FPS)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
        for packet in tone(audio, len(images) / FPS, start) if audio is not None else ():
            container.mux(packet)
    return path


def tone(audio: Any, seconds: float, start: float) -> Any:
    for first in range(0, round(seconds * 48000), 960):
        ticks = np.arange(first, first + 960) / 48000
        wave = np.sin((300 + 200 * ticks) * 2 * np.pi * ticks)  # no two moments alike
        samples = av.AudioFrame.from_ndarray(wave.astype(np.float32)[None], "fltp", "mono")
        samples.sample_rate, samples.time_base = 48000, Fraction(1, 48000)
        samples.pts = first + round(start * 48000)
        yield from audio.encode(samples)
    yield from audio.encode(None)


def moving(count: int) -> list[NDArray[np.uint8]]:
    images = []
    for number in range(count):
        image = np.full((64, 96, 3), 40, np.uint8)
        image[16:48, number % 60 : number % 60 + 20] = 220
        images.append(image)
    return images


@dataclass
class Shown:
    """A result that is its frame."""

    image: NDArray[np.uint8]

    def overlay(self) -> NDArray[np.uint8]:
        return self.image


def copied(source: Path, target: Path, *, first: int = 0, **words: Any) -> Any:
    """The sink after the frames of a video went through it."""
    video = VideoFile(source)
    sink = open_sink(target, info=video.info, options=SinkOptions(**words))
    for frame in video.frames():
        if frame.index >= first:
            sink.write(frame, Shown(frame.image_hwc))  # type: ignore[arg-type]
    sink.close()
    return sink


def sound_packets(path: Path) -> tuple[list[bytes], list[float]]:
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return [], []
        packets = [p for p in container.demux(audio=0) if p.pts is not None]
        return [bytes(p) for p in packets], [float(p.pts * p.time_base) for p in packets]
