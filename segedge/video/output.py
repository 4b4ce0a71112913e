"""From what the user typed to a sink; and what all files that are written share.

That is their names, atomic replacement, and errors in words.
"""

from __future__ import annotations

import errno
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from segedge.errors import SinkError, UsageError, nearest_name
from segedge.frame import Frame
from segedge.video.protocols import Analysis, Sink, SourceInfo

if TYPE_CHECKING:
    from segedge.video.encode_options import Codec, EncodeOptions
    from segedge.video.write_images import Picture

SINK_VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm")
"""Endings that can be written as video."""

OVERLAY_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
"""Endings that can be written as overlay images."""

ALPHA_SUFFIXES = (".png", ".webp", ".tif", ".tiff")
"""Those of them that hold opacity."""

JSON_SUFFIXES = (".jsonl", ".ndjson")
"""Endings that are written as JSON lines."""

WINDOW = "window"
"""The target that is a window; ``window:TITLE`` names it, ``window/`` is a folder."""

CONTACT = "contact:"
"""The prefix of a target that is one picture of many small ones."""

DEFAULT_FPS = 10.0
"""Rate of a video made from still images."""

Masks = Literal["labels", "palette", "panoptic"]


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
    alpha: bool = False
    """Whether pictures have an opacity (the effect ``cutout``), which few formats keep."""

    def encoding(self) -> EncodeOptions:
        """The part that is the encoder's.

        Raises:
            UsageError: No such codec, encoder or preset, with the nearest name.
        """
        from segedge.video.encode_options import EncodeOptions

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
        from segedge.video.push import PushSink

        if options.alpha:
            raise UsageError(
                "cutouts cannot be pushed: streams hold no opacity",
                fix="-o out.webm, or --effect replace --background '#00ff00'",
            )
        rate = _rate(info, options)
        return PushSink(text, fps=rate, options=options.encoding(), live=info.live)
    if text == WINDOW or text.startswith(f"{WINDOW}:"):
        from segedge.video.window import WindowSink

        return WindowSink(text.partition(":")[2] or f"segedge: {Path(info.name).name}")
    if text.startswith(CONTACT):
        from segedge.video.contact import ContactSheetSink

        return ContactSheetSink(text.removeprefix(CONTACT))
    if text == "-" or path.suffix.lower() in JSON_SUFFIXES:
        from segedge.video.json_lines import JsonLinesSink

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
        from segedge.video.write_images import FolderSink

        return FolderSink(path, picture=masks or ("cutout" if options.alpha else "overlay"))
    if suffix in SINK_VIDEO_SUFFIXES:
        return _video_sink(path, info, options)
    if suffix in OVERLAY_SUFFIXES:
        return _image_sink(path, info, masks or ("cutout" if options.alpha else "overlay"))
    raise _unknown_ending(path)


def _video_sink(path: Path, info: SourceInfo, options: SinkOptions) -> Sink:
    from segedge.video.segments import SegmentedSink
    from segedge.video.write_video import VideoSink

    if path.suffix.lower() == ".webm" and options.codec == "h264":
        options = replace(options, codec="vp9")
    if options.alpha:
        _check_video_alpha(path)
        options = replace(options, codec="vp9")
    rate, encoding = _rate(info, options), options.encoding()
    if options.segment_seconds is not None:
        return SegmentedSink(path, rate, options.segment_seconds, encoding)
    return VideoSink(path, fps=rate, options=encoding, frame_count=info.frame_count)


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
    from segedge.video.write_images import ImageSink

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


def part_path(path: Path) -> Path:
    """A fresh hidden name beside ``path``, with its ending: for a file that is not whole yet."""
    return path.with_name(f".{path.stem}.part-{uuid.uuid4().hex[:8]}{path.suffix}")


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that its name never stands for half of it.

    Raises:
        SinkError: It cannot be written; what was there before is untouched.
    """
    try:
        replace_file(path, data)
    except OSError as error:
        raise sink_error(path, error, facts={"needed": megabytes(len(data))}) from error


def replace_file(path: Path, data: bytes) -> None:
    """`write_atomically` for those who tell of a refusal themselves.

    Raises:
        OSError: The disk refuses it; what was there before is untouched.
    """
    part = part_path(path)
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def prepare_folder(folder: Path, *, purpose: Path) -> None:
    """Make a folder, and be sure that files can be made in it: before hours of work, not after.

    Args:
        folder: Where files will be made.
        purpose: What the error names as the thing that cannot be written.

    Raises:
        SinkError: It cannot be made or written.
    """
    probe = folder / f".segedge-{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise sink_error(purpose, error) from error


def sink_error(path: Path, error: OSError, *, facts: Mapping[str, str] | None = None) -> SinkError:
    """The system's refusal to write, in words.

    Args:
        path: What was to be written.
        error: The refusal.
        facts: Further facts, after ours.
    """
    facts = facts or {}
    if error.errno == errno.ENOSPC:
        return SinkError(
            f"the disk is full: cannot write {path}",
            facts={"free": f"{free_space(path)} on the disk of {existing_folder(path)}", **facts},
            fix="free some space, or write to another disk with -o",
        )
    reason = error.strerror or str(error)
    return SinkError(
        f"cannot write {path}",
        facts={"found": reason, **facts},
        fix="choose another place with -o",
    )


def existing_folder(path: Path) -> Path:
    """The nearest folder at or above ``path`` that exists."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.is_dir())


def free_space(path: Path) -> str:
    """Free space where ``path`` is or would be, for people."""
    return megabytes(shutil.disk_usage(existing_folder(path)).free)


def megabytes(count: float) -> str:
    """Bytes as megabytes, for people."""
    return f"{count / 1e6:.1f} MB"


def same_file(a: Path, b: str) -> bool:
    """Whether two names stand for one existing file."""
    try:
        return a.samefile(b)
    except OSError:
        return False


class FrameNames:
    """File names for frames: an image's own stem, a video's frame number, no name twice.

    Two images of one stem (from two folders, or ``a.jpg`` beside ``a.png``) get ``folder_stem``,
    then ``folder_stem_ending``, then ``stem_index``.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def __call__(self, frame: Frame) -> str:
        """A stem that no frame had before."""
        if not frame.name or frame.pts_seconds is not None:
            return f"{frame.index:06d}"
        path = Path(frame.name)
        folder, ending = path.absolute().parent.name, path.suffix.lstrip(".")
        candidates = (
            path.stem,
            f"{folder}_{path.stem}",
            f"{folder}_{path.stem}_{ending}",
            f"{path.stem}_{frame.index:06d}",
        )
        # Compared without case: a.png and A.png are one file on Windows and macOS.
        name = next((c for c in candidates if c.casefold() not in self._taken), candidates[-1])
        self._taken.add(name.casefold())
        return name
