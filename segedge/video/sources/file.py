"""VideoFile: a video file as a source, decoded by FFmpeg through PyAV."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.errors import SourceError
from segedge.frames.frame import Frame
from segedge.frames.protocols import PixelTags, SourceFailure, SourceInfo
from segedge.video.bgr import LENIENT, BgrConverter, bits_used, video_stream
from segedge.video.decoder import choose_decoder
from segedge.video.ffmpeg import av, local
from segedge.video.options import Decoder
from segedge.video.sources.damage import Damage
from segedge.video.sources.deinterlace import deinterlaced
from segedge.video.sources.diagnose import unreadable_video
from segedge.video.sources.length import length_seconds
from segedge.video.sources.parts import VideoPart, packets_from, within_part
from segedge.video.upright import pixel_aspect
from segedge.video.vectors import ask_vectors, vectors_of

_DEFAULT_FPS = 25.0
"""For raw streams that declare no rate; FFmpeg's own default."""

_SEEK_BEFORE_SECONDS = (0.0, 2.0, 10.0, math.inf)
_CONVERT = "convert it: ffmpeg -i VIDEO -c:v libx264 out.mp4"


class VideoFile:
    """Frames of a video file, in presentation order, turned upright, all of one size.

    Every iteration opens the file anew. A file that ends early yields what can be decoded; what
    is missing is in `failures` afterwards.

    Colours are converted with the matrix and range that the stream declares; where it declares
    none FFmpeg takes BT.601, as OpenCV's VideoCapture does.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        decoder: Decoder = "auto",
        part: VideoPart | None = None,
        motion_vectors: bool = False,
        deinterlace: bool = False,
    ) -> None:
        """Open the file, read its header and decode one frame.

        Of a ``part`` only its frames come, under their numbers in the file. With
        ``motion_vectors`` frames carry those of the codec; with ``deinterlace`` all lines of a
        frame are made of one moment.
        """
        self._path = Path(path)
        self._motion_vectors = motion_vectors
        self._deinterlace = deinterlace
        self._part = part
        self._closed = threading.Event()
        self.failures: list[SourceFailure] = []
        self._hwaccel, note = choose_decoder(decoder)
        with _opened(self._path) as container:
            stream = video_stream(container, str(self._path), fix=_CONVERT)
            stream.thread_type = "SLICE"  # frame threads would decode several to give the first
            pictures = Damage(stream).pictures(container.demux(stream))
            first = next((p for p in pictures if p is not None), None)
            self._declared_frames = int(stream.frames)
            self._declared_seconds = length_seconds(container, stream)
            self._start_seconds = (container.start_time or 0) / av.time_base
            fps = float(stream.average_rate or stream.guessed_rate or _DEFAULT_FPS)
            codec = stream.codec_context.name
            self._aspect = pixel_aspect(stream)
        if first is None:
            raise SourceError(
                f"no frame of {self._path} can be decoded",
                facts={"found": f"a {codec} stream of {self._declared_frames} frames"},
                fix="check that it plays, e.g. ffplay",
            )
        shown_as = BgrConverter(self._aspect)
        tags = PixelTags(
            int(first.color_primaries), int(first.color_trc), shown_as.shown_aspect(first)
        )
        told = _told(self._path.name, first, tags, deinterlace=deinterlace)
        self.notes: tuple[str, ...] = (*filter(None, (note,)), *told)
        size = shown_as.shown_size(first)
        count = self._declared_frames or round(self._declared_seconds * fps) or None
        self._expected_frames = count
        shown = count if part is None else part.frames
        self.info = SourceInfo(str(self._path), "video", size, fps, shown, tags=tags)

    def frames(self) -> Iterator[Frame]:
        """All frames that can be decoded, from the start."""
        self.failures.clear()
        fps = self.info.fps or _DEFAULT_FPS
        part = self._part
        index, end_seconds = part.first_index if part else 0, 0.0
        with _opened(self._path, self._hwaccel) as container:
            stream = video_stream(container, str(self._path), fix=_CONVERT)
            # Frame threads lose the vectors of a frame in some runs, of the same file.
            stream.thread_type = "SLICE" if self._motion_vectors else "AUTO"
            if self._motion_vectors:
                ask_vectors(stream)
            damage = Damage(stream)
            if part is None:
                pictures = damage.pictures(container.demux(stream))
            else:
                packets = packets_from(container, stream, part.start_pts, part.key_dts)
                pictures = within_part(damage.pictures(packets, part.first_index), part)
            if self._deinterlace:
                pictures = deinterlaced(pictures, stream)
            to_bgr = BgrConverter(self._aspect)
            while not self._closed.is_set():
                start_ns = time.monotonic_ns()
                picture = next(pictures, None)
                if picture is None:
                    if part is None or part.end_pts is None:
                        damage.end(index)
                    break
                damage.look(picture, index)
                image = to_bgr(picture)
                self._check_size(image, index)
                pts_seconds = index / fps if picture.time is None else float(picture.time)
                frame = Frame(image, index, self.info.name, pts_seconds, start_ns)
                if self._motion_vectors:
                    frame.motion_vectors = vectors_of(picture)
                frame.times.add("decode", (time.monotonic_ns() - start_ns) / 1e6)
                index += 1
                end_seconds = max(end_seconds, pts_seconds - self._start_seconds + 1 / fps)
                yield frame
        if not self._closed.is_set():
            self._record(damage.problems, index, end_seconds)

    def sampled(self, most: int) -> Iterator[NDArray[np.uint8]]:
        """At most so many frames' H x W x 3 uint8 BGR images, evenly spread over the file.

        They are sought, since decoding all of a long recording takes minutes; a raw stream, which
        has no times to seek by, is read through.
        """
        count = self._expected_frames if self._declared_seconds else self._counted()
        indices = np.linspace(0, (count or 1) - 1, min(most, count or 1)).round()
        if not self._declared_seconds:
            wanted = set(indices.tolist())
            yield from (frame.image_hwc for frame in self.frames() if frame.index in wanted)
            return
        last_pts = None
        for index in indices:
            seconds = self._start_seconds + (index - 0.5) / (self.info.fps or _DEFAULT_FPS)
            picture = self._picture_at(seconds)
            if picture is not None and picture.pts != last_pts:
                last_pts = picture.pts
                yield BgrConverter(self._aspect)(picture)

    def _picture_at(self, seconds: float) -> Any:
        """The first picture from a time on, or None at the end.

        MPEG-TS has no index: a seek may end behind the key frame, and decoding begins too late.
        So it is tried from ever earlier, and at last from the start.
        """
        for before_seconds in _SEEK_BEFORE_SECONDS:
            from_seconds = seconds - before_seconds
            with _opened(self._path) as container:
                stream = video_stream(container, str(self._path), fix=_CONVERT)
                stream.thread_type = "AUTO"
                if from_seconds > self._start_seconds:
                    with suppress(av.error.FFmpegError):  # no seeking here: from the start
                        container.seek(round(from_seconds / stream.time_base), stream=stream)
                pictures = Damage(stream).pictures(container.demux(stream))
                shown = (p for p in pictures if p is not None and p.time is not None)
                first = next(shown, None)
                if first is not None and first.time < seconds:
                    return next((p for p in shown if p.time >= seconds), None)
                if from_seconds <= self._start_seconds:
                    return first
        return None

    def _counted(self) -> int:
        """How many frames a stream without a duration has; nothing is decoded."""
        with _opened(self._path) as container:
            stream = video_stream(container, str(self._path), fix=_CONVERT)
            return sum(1 for packet in container.demux(stream) if packet.size)

    def close(self) -> None:
        """End a running iteration before its next frame."""
        self._closed.set()

    def _check_size(self, image: NDArray[np.uint8], index: int) -> None:
        """Joined recordings change size: two videos in one file, of which no sink makes one."""
        height, width = self.info.size or image.shape[:2]
        if image.shape[:2] == (height, width):
            return
        raise SourceError(
            f"{self._path} changes size in mid-stream",
            facts={
                "found": f"frame {index} is {image.shape[1]}x{image.shape[0]}",
                "expected": f"{width}x{height}, as the {index} frames before it",
            },
            fix=f"bring it to one size: ffmpeg -i {self._path.name} -vf scale={width}:{height} "
            "one-size.mp4",
        )

    def _record(self, problems: list[str], count: int, end_seconds: float) -> None:
        """Note what did not decode, and whether the end is missing."""
        part = self._part
        first = part.first_index if part else 0
        if problems:
            more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
            reason = f"damaged: {problems[0]}{more}; {count - first} frames decoded"
            self.failures.append(SourceFailure(self.info.name, reason))
        if part is not None and part.end_pts is not None:
            if count - first < part.frames and not problems:
                reason = f"{count - first} of {part.frames} frames decoded, from frame {first} on"
                self.failures.append(SourceFailure(self.info.name, reason))
        elif self._ends_early(count, end_seconds):
            expected = self._expected_frames or 0
            about = "" if self._declared_frames else "about "
            reason = (
                f"truncated: {count} of {about}{expected} frames, "
                f"{end_seconds:.1f} of {self._declared_seconds:.1f} s"
            )
            self.failures.append(SourceFailure(self.info.name, reason, cut=True))

    def _ends_early(self, count: int, end_seconds: float) -> bool:
        """Whether frames *and* time are missing.

        Either alone is no proof: an edit list hides frames that are in the count, and the
        duration is that of the longest stream, which may be the sound. Without a count the
        tolerance is therefore a second.
        """
        if self._declared_frames:
            slack_seconds = 2.0 / (self.info.fps or _DEFAULT_FPS)
            return count < self._declared_frames and (
                end_seconds < self._declared_seconds - slack_seconds
            )
        return bool(end_seconds < self._declared_seconds - 1.0)


def _told(name: str, first: Any, tags: PixelTags, *, deinterlace: bool) -> Iterator[str]:
    """What is not seen in the numbers: lines of two moments, colours of another kind of screen."""
    if first.interlaced_frame and not deinterlace:
        yield f"{name}: interlaced, so moving edges are combed; --deinterlace makes whole pictures"
    used = bits_used(first)
    if used is not None:
        yield (
            f"{name}: the first frame uses {used} of its 16 bits: if white has no more, the "
            "network sees it almost black; bring it to 8 bits first"
        )
    if tags.hdr:
        yield (
            f"{name}: HDR ({tags.hdr}), not tone-mapped: networks trained on ordinary pictures see "
            "it pale; a video that is made of it says that it is HDR"
        )


@contextmanager
def _opened(path: Path, hwaccel: Any = None) -> Iterator[Any]:
    """The container, closed afterwards; FFmpeg's refusal as our error."""
    try:
        container = av.open(local(path), hwaccel=hwaccel, **LENIENT)
    except (av.error.InvalidDataError, av.error.EOFError) as error:
        raise unreadable_video(path, error.strerror) from error
    except (av.error.FFmpegError, OSError) as error:
        raise SourceError(
            f"cannot open video {path}", facts={"found": error.strerror or str(error)}
        ) from error
    with container:
        yield container
