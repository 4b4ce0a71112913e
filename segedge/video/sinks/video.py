"""VideoSink: overlays as a video file, encoded by FFmpeg through PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

from segedge.errors import UsageError, unknown_name_error
from segedge.frames.closing import check_takes
from segedge.frames.frame import Frame
from segedge.frames.protocols import PixelTags, ResultView
from segedge.machine.files import megabytes, part_path, prepare_folder, sink_error
from segedge.video.encode.encoders import choose_encoder
from segedge.video.encode.options import EncodeOptions
from segedge.video.encode.settings import open_encoder
from segedge.video.ffmpeg import av, local
from segedge.video.formats import SINK_VIDEO_SUFFIXES
from segedge.video.picture import Clock, Fitter
from segedge.video.sinks.sound import Sound

_CONTAINER_OPTIONS = {"flush_packets": "1"}
"""To the disk with every packet: FFmpeg would hold back 256 kB."""

_LACKS = {
    ".mov": ("av1", "vp9"),
    ".m4v": ("h265", "av1", "vp9"),
    ".webm": ("h264", "h265"),
}
"""Codecs that FFmpeg does not write into a container."""

_MP4_OPTIONS = {"movflags": "+hybrid_fragmented"}


VideoOptions = EncodeOptions


class VideoSink:
    """One video file of overlays, with the sound of the file that they are made of.

    - *Times*: every frame keeps the time it has in its source (variable rates stay so); frames
      without one follow at ``fps``. Time that does not advance (joined streams) goes on at ``fps``.
    - *Size*: that of the first frame; frames of another size are letterboxed onto it, with one
      note. 4:2:0 colour needs even sides: an odd one gets a copy of its last row or column.
    - *Pixels*: of the source's shape, frames have square ones; square with AV1 and VP9 in Matroska.
    - *Colour*: BT.601, limited range, and the file says so; the source's primaries and transfer.
    - *Sound*: copied, not encoded, first frame to last; a note where it cannot be held.
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
        sound_of: Path | None = None,
        tags: PixelTags | None = None,
    ) -> None:
        """Check name and place; the file is begun with the first frame.

        A known ``frame_count`` lets a full disk say how much is missing. ``sound_of`` is the video
        file whose sound is copied, ``tags`` what `SourceInfo` says.
        """
        self._path = Path(path)
        if self._path.suffix.lower() not in SINK_VIDEO_SUFFIXES:
            raise unknown_name_error("video ending", self._path.suffix, SINK_VIDEO_SUFFIXES)
        if not fps > 0:
            raise UsageError(f"a video needs a positive rate, found {fps} frames a second")
        self._options = options or VideoOptions()
        _check_holds(self._path, self._options.codec)
        _check_alpha(self._path, self._options.alpha)
        prepare_folder(self._path.parent, purpose=self._path)
        self._part = part_path(self._path)
        self._clock = Clock(fps)
        self._tags = _held(tags or PixelTags(), self._path, self._options.codec)
        self._fitter = Fitter(self._path.name, self._tags.aspect)
        self._frame_count = frame_count
        self._sound_of = sound_of
        self._sound: Sound | None = None
        self._container: Any = None
        self._stream: Any = None
        self._written = 0
        self._end_seconds = 0.0
        self._is_closed = False
        self.needs = frozenset({"overlay"})
        self.paths: Sequence[Path] = ()

    def write(self, frame: Frame, result: ResultView) -> None:
        """Encode one overlay."""
        check_takes(not self._is_closed, self._path)
        with frame.times.measure("encode"):
            picture = self._fitter.picture(result.overlay(), frame.index)
            try:
                begins = self._container is None
                if begins:
                    self._begin(has_times=frame.pts_seconds is not None)
                picture.pts, picture.duration = self._clock.ticks(frame.pts_seconds)
                picture.time_base = self._clock.time_base
                if begins and self._sound is not None and frame.pts_seconds is not None:
                    self._sound.begin(frame.pts_seconds, picture.time)
                self._end_seconds = float((picture.pts + picture.duration) * picture.time_base)
                self._container.mux(self._stream.encode(picture))
                self._copy_sound()
            except (av.error.FFmpegError, OSError) as error:
                self._abandon(error)
            self._written += 1

    def close(self, *, error: bool = False) -> None:
        """Finish the file and give it its name; see the class for which."""
        self._is_closed = True
        if self._container is None:
            return
        try:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._close_sound()
            final = self._partial_path if error else self._path
            self._part.replace(final)
        except (av.error.FFmpegError, OSError) as failure:
            self._abandon(failure)
        self._container = self._stream = None
        self.paths = (final,)

    @property
    def notes(self) -> list[str]:
        """Frames of another size, and an encoder that is not the one asked for."""
        return self._fitter.notes

    @property
    def _partial_path(self) -> Path:
        return self._path.with_name(f"{self._path.stem}.partial{self._path.suffix}")

    def _begin(self, *, has_times: bool) -> None:
        """Choose the encoder and open the file, at the size of the first frame.

        Not every container that knows a codec takes every stream of it: where it refuses to begin
        with the sound, it begins without.
        """
        if self._sound_of is not None and has_times:
            self._sound = Sound(self._sound_of)
        try:
            self._open()
        except (av.error.FFmpegError, ValueError):
            if self._sound is None or not self._sound.is_joined:
                raise
            self._sound.refuse(self._path.name)
            self._container.close()
            self._open()

    def _open(self) -> None:
        choice = choose_encoder(self._options, self._fitter.even_size)
        if choice.note and choice.note not in self._fitter.notes:
            self._fitter.notes.append(choice.note)
        suffix = self._path.suffix.lower()
        fragments = {} if suffix in (".mkv", ".webm") else _MP4_OPTIONS
        self._container = av.open(
            local(self._part), "w", container_options={**_CONTAINER_OPTIONS, **fragments}
        )
        stream = self._container.add_stream(choice.encoder, rate=self._clock.rate)
        stream.height, stream.width = self._fitter.even_size
        codec = stream.codec_context
        codec.color_primaries, codec.color_trc = self._tags.primaries, self._tags.transfer
        if self._tags.aspect != 1:
            codec.sample_aspect_ratio = self._tags.aspect
        if self._options.codec == "h265" and suffix != ".mkv":
            codec.codec_tag = "hvc1"  # Apple's players know no hev1
        open_encoder(codec, choice.encoder, self._options, self._clock.rate, self._clock.time_base)
        self._stream = stream
        if self._sound is not None and self._sound.join(self._container, self._path.name):
            self._container.start_encoding()

    def _copy_sound(self) -> None:
        """What is heard up to the end of the last frame."""
        if self._sound is not None:
            for packet in self._sound.until(self._end_seconds):
                self._container.mux(packet)

    def _close_sound(self) -> None:
        if self._sound is not None:
            self._fitter.notes += [n for n in self._sound.notes if n not in self._fitter.notes]
            self._sound.close()
            self._sound = None

    def _abandon(self, error: Any) -> NoReturn:
        """Close after a failure, keep what plays, and raise.

        Nothing may be muxed after a failure: PyAV 18 crashes when the header was not written.
        """
        if self._container is not None:
            with suppress(av.error.FFmpegError, OSError):
                self._container.close()
        self._container = self._stream = None
        self._is_closed = True
        self._close_sound()
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


def _held(tags: PixelTags, path: Path, codec: str) -> PixelTags:
    """What a file can say: Matroska's pixel shape is none that PyAV 18 sets, so the codec's is."""
    if codec in ("av1", "vp9") and path.suffix.lower() in (".mkv", ".webm"):
        return replace(tags, aspect=Fraction(1))
    return tags


def _check_holds(path: Path, codec: str) -> None:
    if codec not in _LACKS.get(path.suffix.lower(), ()):
        return
    raise UsageError(
        f"{path.name}: {path.suffix} holds no {codec}",
        fix="--codec vp9"
        if path.suffix.lower() == ".webm"
        else f"-o {path.with_suffix('.mp4')}, or --codec h264",
    )


def _check_alpha(path: Path, has_alpha: bool) -> None:
    """Containers with opacity: WebM, and Matroska, which it is made of."""
    if has_alpha and path.suffix.lower() not in (".webm", ".mkv"):
        raise UsageError(
            f"{path.name}: {path.suffix} holds no opacity",
            fix=f"-o {path.with_suffix('.webm')}, or -o {path.with_suffix('')}/ for PNG files",
        )


def _plays(path: Path) -> bool:
    """Whether at least one frame of the file decodes."""
    try:
        with av.open(local(path)) as container:
            return next(container.decode(video=0), None) is not None
    except (av.error.FFmpegError, OSError, IndexError):
        return False
