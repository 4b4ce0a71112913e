"""From what the user typed to a sink; and what all files that are written share.

That is their names, atomic replacement, and errors in words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from segedge.errors import UsageError, nearest_name
from segedge.frames.protocols import Analysis, Sink, SourceInfo
from segedge.machine.files import same_file
from segedge.video.formats import (
    DEFAULT_FPS,
    JSON_SUFFIXES,
    OVERLAY_SUFFIXES,
    SINK_VIDEO_SUFFIXES,
    Codec,
    Masks,
)

if TYPE_CHECKING:
    from segedge.video.encode.options import EncodeOptions
    from segedge.video.sinks.images import Picture


WINDOW = "window"
"""The target that is a window; ``window:TITLE`` names it, ``window/`` is a folder."""

CONTACT = "contact:"
"""The prefix of a target that is one picture of many small ones."""


@dataclass(frozen=True)
class SinkOptions:
    """How sinks write; each takes what concerns it."""

    codec: Codec = "h264"
    """``h264``, ``h265``, ``av1`` or ``vp9``: what videos and pushes hold. In a ``.webm`` the
    default stands for ``vp9``."""
    encoder: str = "auto"
    """FFmpeg's name of an encoder, or ``auto``: the first that works here."""
    crf: int | None = None
    """Quality of a video; lower is better. None is the codec's usual one."""
    preset: str | None = None
    """The encoder's trade of time for size; None is one for real time."""
    fps: float | None = None
    """Rate of a video; None is the source's own, or `DEFAULT_FPS` for still images."""
    segment_seconds: float | None = None
    """Length of the files that a recording is cut into; None is one file."""
    key_seconds: float = 2.0
    """Time between key frames."""
    make_analyses: Callable[[], Sequence[Analysis]] = tuple
    """Makes what JSON lines say beyond their usual keys: anew for each sink, as they keep state."""
    audio: bool = True
    """Whether a video made of a video file gets its sound: copied, not encoded."""
    alpha: bool = False
    """Whether pictures have an opacity (the effect ``cutout``), which few formats keep."""

    def encoding(self) -> EncodeOptions:
        """The part that is the encoder's."""
        from segedge.video.encode.options import EncodeOptions

        return EncodeOptions(
            codec=self.codec,
            encoder=self.encoder,
            crf=self.crf,
            preset=self.preset,
            key_seconds=self.key_seconds,
            alpha=self.alpha,
        )


def open_sink(
    target: str | Path,
    *,
    info: SourceInfo,
    masks: Masks | None = None,
    options: SinkOptions | None = None,
) -> Sink:
    """The sink that an output names; docs/sinks.md lists the spellings.

    Args:
        target: A video, an image, a folder, ``contact:x.jpg``, ``x.jsonl``, ``-`` (JSON lines to
            standard output), ``window``, or an address to push to.
        info: The source, for rate, length and names.
        masks: Images and folders hold the labels instead of the overlay: ``labels`` as raw
            indices, ``palette`` as indices with the class colours, ``panoptic`` as COCO has
            them. Videos are overlays anyway.
        options: How to write.

    Raises:
        UsageError: Unknown ending or name, one image for many frames, or the output is the source.
        SinkError: The place cannot be written.
    """
    text, path, options = str(target), Path(target), options or SinkOptions()
    if not text:
        raise UsageError("an output without a name", fix="-o out.mp4, -o out.png or -o folder/")
    if "://" in text:
        from segedge.video.push.sink import PushSink

        if options.alpha:
            raise UsageError(
                "cutouts cannot be pushed: streams hold no opacity",
                fix="-o out.webm, or --effect replace --background '#00ff00'",
            )
        rate = _rate(info, options)
        return PushSink(text, fps=rate, options=options.encoding(), live=info.live)
    if text == WINDOW or text.startswith(f"{WINDOW}:"):
        from segedge.video.sinks.window import WindowSink

        return WindowSink(text.partition(":")[2] or f"segedge: {Path(info.name).name}")
    if text.startswith(CONTACT):
        from segedge.video.sinks.contact import ContactSheetSink

        return ContactSheetSink(text.removeprefix(CONTACT))
    if text == "-" or path.suffix.lower() in JSON_SUFFIXES:
        from segedge.video.sinks.json_lines import JsonLinesSink

        _check_not_source(path, info)
        return JsonLinesSink(text, analyses=options.make_analyses())
    return _picture_sink(path, text.endswith("/"), info, masks, options)


def _picture_sink(
    path: Path, is_folder: bool, info: SourceInfo, masks: Masks | None, options: SinkOptions
) -> Sink:
    """A folder, a video or an image."""
    _check_not_source(path, info)
    suffix = path.suffix.lower()
    if is_folder or path.is_dir() or not suffix:
        from segedge.video.sinks.images import FolderSink

        return FolderSink(path, picture=masks or ("cutout" if options.alpha else "overlay"))
    if suffix in SINK_VIDEO_SUFFIXES:
        return _video_sink(path, info, options)
    if suffix in OVERLAY_SUFFIXES:
        return _image_sink(path, info, masks or ("cutout" if options.alpha else "overlay"))
    raise _unknown_ending(path)


def _video_sink(path: Path, info: SourceInfo, options: SinkOptions) -> Sink:
    from segedge.video.sinks.segments import SegmentedSink
    from segedge.video.sinks.video import VideoSink

    if path.suffix.lower() == ".webm" and options.codec == "h264":
        options = replace(options, codec="vp9")
    if options.alpha:
        _check_video_alpha(path)
        options = replace(options, codec="vp9")
    rate, encoding = _rate(info, options), options.encoding()
    source = Path(info.name)
    sound_of = source if options.audio and info.kind == "video" and source.is_file() else None
    if options.segment_seconds is not None:
        return SegmentedSink(
            path, rate, options.segment_seconds, encoding, sound_of=sound_of, tags=info.tags
        )
    return VideoSink(
        path, fps=rate, options=encoding, frame_count=info.frame_count,
        sound_of=sound_of, tags=info.tags,
    )  # fmt: skip


def _check_video_alpha(path: Path) -> None:
    if path.suffix.lower() in (".webm", ".mkv"):
        return
    raise UsageError(
        f"{path} holds no opacity: a cutout is a WebM or a folder of PNG files",
        fix=f"-o {path.with_suffix('.webm')}, -o {path.with_suffix('')}/, "
        "or --effect replace --background '#00ff00'",
    )


def _rate(info: SourceInfo, options: SinkOptions) -> float:
    return (info.fps or DEFAULT_FPS) if options.fps is None else options.fps


def _image_sink(path: Path, info: SourceInfo, picture: Picture) -> Sink:
    if (info.frame_count or 1) > 1:
        raise UsageError(
            f"{path} is one image, and {info.name} has {info.frame_count} frames",
            fix=f"-o {path.with_suffix('')}/ writes one image a frame, "
            f"-o {path.with_suffix('.mp4')} a video",
        )
    from segedge.video.sinks.images import ImageSink

    return ImageSink(path, picture=picture)


def _check_not_source(path: Path, info: SourceInfo) -> None:
    """Outputs replace what has their name: never the source itself."""
    if path.exists() and same_file(path, info.name):
        raise UsageError(
            f"{path} is the source itself", fix="choose another name or folder for the output"
        )


def _unknown_ending(path: Path) -> UsageError:
    known = SINK_VIDEO_SUFFIXES + OVERLAY_SUFFIXES + JSON_SUFFIXES
    near = nearest_name(path.suffix, known)
    return UsageError(
        f"cannot write {path}: unknown ending {path.suffix!r}"
        + (f"; did you mean {near!r}?" if near else ""),
        facts={
            "videos": " ".join(SINK_VIDEO_SUFFIXES),
            "images": " ".join(OVERLAY_SUFFIXES),
            "facts": " ".join(JSON_SUFFIXES),
        },
        fix=f"-o {path}/ makes a folder of that name",
    )
