"""VideoSink: overlays as an H.264 file, encoded by x264 through PyAV."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

import av
import av.error
import cv2
import numpy as np
from numpy.typing import NDArray

from segedge.errors import UsageError, unknown_name_error
from segedge.frame import Frame
from segedge.video.output import (
    SINK_VIDEO_SUFFIXES,
    megabytes,
    part_path,
    prepare_folder,
    sink_error,
)
from segedge.video.protocols import ResultView

PRESETS = (
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow",
)  # fmt: skip

_BT601_MATRIX, _LIMITED_RANGE = 6, 1
"""What OpenCV's BGR2YUV_I420 makes, in the numbers of ITU-T H.273 and FFmpeg."""

_CONTAINER_OPTIONS = {"flush_packets": "1"}
"""To the disk with every packet: FFmpeg would hold back 256 kB."""

_MP4_OPTIONS = {"movflags": "+hybrid_fragmented"}


@dataclass(frozen=True)
class VideoOptions:
    """How a video is encoded."""

    crf: int = 23
    """Constant quality, 0 (lossless) to 51; 6 more halve the size."""
    preset: str = "ultrafast"
    """x264's trade of time for size. The encoder runs beside a network that wants every core, so
    time counts: for overlays of real street scenes at 720p, one frame took on one core 6.5 ms with
    ultrafast (deblocking added), 17 ms with superfast and 27 ms with veryfast, for 31, 25 and 17 kB
    at 37.8, 37.5 and 36.5 dB PSNR."""
    key_seconds: float = 2.0
    """Time between key frames: how finely players seek, and at most what a full disk costs."""

    def __post_init__(self) -> None:
        if not 0 <= self.crf <= 51:
            raise UsageError(f"crf must be within 0..51, found {self.crf}")
        if self.preset not in PRESETS:
            raise unknown_name_error("x264 preset", self.preset, PRESETS)


class VideoSink:
    """One video file of overlays, without sound.

    - *Times*: every frame keeps the time it has in its source (variable rates stay so); frames
      without one follow at ``fps``. Time that does not advance (joined streams) goes on at ``fps``.
    - *Size*: that of the first frame; frames of another size are letterboxed onto it, with one
      note. 4:2:0 colour needs even sides: an odd one gets a copy of its last row or column.
    - *Colour*: BT.601, limited range, and the file says so.
    - *Name*: written as a hidden ``.NAME.part-XXXXXXXX.mp4`` beside it, renamed in `close`. After
      Ctrl-C that is the final name too: a shorter video, but whole. Where the run failed, what is
      there is finished and kept as ``NAME.partial.mp4``; without a frame nothing is left.
    - *Full disk*: MP4 is written in fragments (and turned into a plain file in `close`), so all but
      the last two seconds stay playable, kept as ``NAME.partial.mp4``. A killed process leaves the
      hidden file, playable too. The price: the index is at the end (no "faststart").
    """

    def __init__(
        self,
        path: str | Path,
        *,
        fps: float,
        options: VideoOptions | None = None,
        frame_count: int | None = None,
    ) -> None:
        """Check name and place; the file is begun with the first frame.

        Args:
            path: The file; its ending is the container.
            fps: Nominal frames a second.
            options: How to encode.
            frame_count: Frames to come, if known: lets a full disk say how much is missing.

        Raises:
            UsageError: The ending is none of a video's, or the rate is not positive.
            SinkError: The folder cannot be made or written.
        """
        self._path = Path(path)
        if self._path.suffix.lower() not in SINK_VIDEO_SUFFIXES:
            raise unknown_name_error("video ending", self._path.suffix, SINK_VIDEO_SUFFIXES)
        if not fps > 0:
            raise UsageError(f"a video needs a positive rate, found {fps} frames a second")
        prepare_folder(self._path.parent, purpose=self._path)
        self._part = part_path(self._path)
        self._options = options or VideoOptions()
        self._clock = _Clock(fps)
        self._frame_count = frame_count
        self._container: Any = None
        self._stream: Any = None
        self._size = (0, 0)
        self._written = 0
        self.needs = frozenset({"overlay"})
        self.paths: Sequence[Path] = ()
        self.notes: list[str] = []

    def write(self, frame: Frame, result: ResultView) -> None:
        """Encode one overlay.

        Raises:
            SinkError: The file cannot be written; what is playable is kept, see the class.
        """
        with frame.times.measure("encode"):
            image = self._fitted(result.overlay(), frame.index)
            try:
                if self._container is None:
                    self._begin()
                picture = _to_yuv(image)
                picture.pts, picture.duration = self._clock.ticks(frame.pts_seconds)
                picture.time_base = self._clock.time_base
                self._container.mux(self._stream.encode(picture))
            except (av.error.FFmpegError, OSError) as error:
                self._abandon(error)
            self._written += 1

    def close(self, *, error: bool = False) -> None:
        """Finish the file and give it its name; see the class for which.

        Raises:
            SinkError: It cannot be finished.
        """
        if self._container is None:
            return
        try:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            final = self._partial_path if error else self._path
            self._part.replace(final)
        except (av.error.FFmpegError, OSError) as failure:
            self._abandon(failure)
        self._container = self._stream = None
        self.paths = (final,)

    @property
    def _partial_path(self) -> Path:
        return self._path.with_name(f"{self._path.stem}.partial{self._path.suffix}")

    def _begin(self) -> None:
        """Open the file and the encoder, at the size of the first frame."""
        fragments = {} if self._path.suffix.lower() == ".mkv" else _MP4_OPTIONS
        self._container = av.open(
            str(self._part), "w", container_options={**_CONTAINER_OPTIONS, **fragments}
        )
        clock = self._clock
        stream = self._container.add_stream(
            "libx264",
            rate=clock.rate,
            options={
                "crf": str(self._options.crf),
                "preset": self._options.preset,
                # ultrafast leaves deblocking out; flat class colours show every block edge.
                # It costs 5 to 8 % of the time and gives up to 0.4 dB.
                "x264-params": "no-deblock=0:deblock=0,0",
            },
        )
        stream.height, stream.width = (length + length % 2 for length in self._size)
        stream.pix_fmt = "yuv420p"
        codec = stream.codec_context
        codec.time_base = clock.time_base
        codec.gop_size = max(1, round(self._options.key_seconds * float(clock.rate)))
        codec.colorspace, codec.color_range = _BT601_MATRIX, _LIMITED_RANGE
        # x264 would start 1.5 threads a core; the network needs them more.
        codec.thread_count = min(4, max(1, (os.cpu_count() or 1) // 2))
        self._stream = stream

    def _fitted(self, image: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
        """The image at the video's size, which the first one sets, padded to even."""
        if self._size == (0, 0):
            self._size = image.shape[:2]
        height, width = self._size
        if image.shape[:2] != self._size:
            if not self.notes:
                found = f"{image.shape[1]}x{image.shape[0]}"
                self.notes.append(
                    f"{self._path.name}: frame {index} is {found}; frames of another size than "
                    f"{width}x{height} are letterboxed onto it"
                )
            image = _letterboxed(image, height, width)
        if height % 2 or width % 2:
            edge = cv2.BORDER_REPLICATE
            image = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, edge)
        return image

    def _abandon(self, error: Any) -> NoReturn:
        """Close after a failure, keep what plays, and raise.

        Nothing may be muxed after a failure: PyAV 18 crashes when the header was not written.
        """
        if self._container is not None:
            with suppress(av.error.FFmpegError, OSError):
                self._container.close()
        self._container = self._stream = None
        size = self._part.stat().st_size if self._part.exists() else 0
        facts = {"written": f"{self._written} frames, {megabytes(size)}"}
        if self._frame_count and 0 < self._written < self._frame_count:
            missing = size / self._written * (self._frame_count - self._written)
            facts["needed"] = f"about {megabytes(missing)} more for {self._frame_count} frames"
        if _plays(self._part):
            self._part.replace(self._partial_path)
            self.paths = (self._partial_path,)
            facts["kept"] = f"{self._partial_path}, playable up to the last two seconds"
        else:
            self._part.unlink(missing_ok=True)
        raise sink_error(self._path, error, facts=facts) from error


class _Clock:
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


def _to_yuv(image: NDArray[np.uint8]) -> Any:
    """A picture in 4:2:0 from even-sized BGR.

    By OpenCV: 1.7 ms at 1080p and without bias, where FFmpeg's scaler takes 3.3 ms and darkens
    red and blue by 1.5 levels. Planes are copied here because `VideoFrame.from_numpy_buffer` of
    PyAV 18 loses rows where the height is no multiple of 4, and `from_ndarray` is slower.
    """
    height, width = image.shape[:2]
    samples = cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420).reshape(-1)
    picture = av.VideoFrame(width, height, "yuv420p")
    start = 0
    for plane in picture.planes:
        end = start + plane.height * plane.width
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        source = samples[start:end].reshape(plane.height, plane.width)
        rows[: plane.height, : plane.width] = source
        start = end
    picture.colorspace, picture.color_range = _BT601_MATRIX, _LIMITED_RANGE
    return picture


def _letterboxed(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The whole image, as large as fits, centred on black."""
    scale = min(height / image.shape[0], width / image.shape[1])
    inner = (max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale)))
    shrinks = scale < 1
    resized = cv2.resize(
        image, inner[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    canvas = np.zeros((height, width, 3), np.uint8)
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    canvas[top : top + inner[0], left : left + inner[1]] = resized
    return canvas


def _plays(path: Path) -> bool:
    """Whether at least one frame of the file decodes."""
    try:
        with av.open(str(path)) as container:
            return next(container.decode(video=0), None) is not None
    except (av.error.FFmpegError, OSError, IndexError):
        return False
