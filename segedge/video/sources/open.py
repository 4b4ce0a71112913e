"""From what the user typed to a source."""

from __future__ import annotations

from pathlib import Path

from segedge.errors import SourceError, UsageError, nearest_name
from segedge.frames.protocols import Source
from segedge.video.formats import DEFAULT_FPS, VIDEO_SUFFIXES
from segedge.video.options import Decoder, SourceOptions


def open_source(spec: str | Path | int, *, options: SourceOptions | None = None) -> Source:
    """The source that a path, pattern, address or device names; docs/sources.md has them all.

    Args:
        spec: An image, a video, a folder of images, a glob pattern of images; a camera (``0``, as
            text or number, ``/dev/video0``), an address (``rtsp://...``), a GStreamer pipeline
            (``gst:...``) or the test pattern (``test:720p30``).
        options: What is asked of it; None is `SourceOptions` as it comes.

    Raises:
        UsageError: An option that this kind of source does not have; no text, path or number.
        SourceError: It does not exist, is empty, of an unknown kind, or cannot be read.
    """
    options = options or SourceOptions()
    spec = str(spec) if isinstance(spec, int) else spec
    if not isinstance(spec, (str, Path)):
        raise UsageError(
            f"a source is a path, an address or a number, found {type(spec).__name__}",
            fix="segedge.MemorySource(arrays, fps=25) gives frames from arrays",
        )
    check_named(spec)
    live = _open_live(str(spec), options) if isinstance(spec, str) else None
    if live is not None:
        return live
    text = str(spec).removeprefix("file://") if isinstance(spec, str) else spec
    without = ("size", "pixel_format") if options.pace else ("size", "pixel_format", "fps")
    _check_options(spec, options, "a file", without=without)
    source = open_files(
        text,
        decoder=options.decoder,
        motion_vectors=options.motion_vectors,
        deinterlace=options.deinterlace,
    )
    if not options.pace:
        return source
    from segedge.video.sources.pace import paced

    fps = options.fps or (DEFAULT_FPS if source.info.fps is None else None)
    return paced(source, fps=fps)


def check_named(spec: str | Path) -> None:
    """Refuse an empty text, as of a variable that is not set: as a path it is this folder."""
    if spec == "":
        raise UsageError("a source without a name", fix="name a file, or . for this folder")


def _open_live(spec: str, options: SourceOptions) -> Source | None:
    """What is no file; None where it is one."""
    from segedge.video.live.address import SCHEMES, masked, scheme_of

    scheme = scheme_of(spec)
    if spec.startswith("test:"):
        from segedge.video.sources.pattern import pattern_source

        _check_options(spec, options, "the test pattern", without=("pixel_format",))
        return pattern_source(spec, options=options)
    if spec.startswith("gst:"):
        from segedge.video.live.gstreamer import gstreamer_source

        without = ("size", "fps", "pixel_format")
        _check_options(masked(spec), options, "a GStreamer pipeline", without=without)
        return gstreamer_source(spec, options=options)
    if scheme in SCHEMES:
        from segedge.video.live.network import network_stream

        without = ("size", "fps", "pixel_format")
        _check_options(masked(spec), options, "a network stream", without=without)
        return network_stream(spec, options=options)
    if scheme is not None and scheme != "file":
        near = nearest_name(scheme, SCHEMES)
        raise SourceError(
            f"cannot read {masked(spec)}: no scheme {scheme!r}"
            + (f"; did you mean {near}://?" if near else ""),
            facts={"known": " ".join(f"{name}://" for name in SCHEMES)},
        )
    return _open_camera(spec, options)


def _open_camera(spec: str, options: SourceOptions) -> Source | None:
    """A camera; None where it is spelled otherwise, or a file has that name."""
    from segedge.video.live.address import is_camera_spec

    if not is_camera_spec(spec) or (spec.isdigit() and Path(spec).exists()):
        return None
    from segedge.video.live.camera import camera

    return camera(spec, options=options)


def _check_options(
    spec: str | Path, options: SourceOptions, kind: str, *, without: tuple[str, ...]
) -> None:
    """An option that would do nothing is a misunderstanding."""
    for name in without:
        if getattr(options, name) is not None:
            words = {"size": "size", "fps": "rate", "pixel_format": "pixel format"}[name]
            raise UsageError(
                f"{spec} cannot be asked for a {words}: it is {kind}",
                fix="leave the option out; cameras have it"
                + ("" if name == "pixel_format" else ", and the test pattern"),
            )


def open_files(
    spec: str | Path,
    *,
    decoder: Decoder = "auto",
    motion_vectors: bool = False,
    deinterlace: bool = False,
) -> Source:
    """Images and videos on disk; `open_source` without cameras, addresses and pipelines."""
    from segedge.video.formats import IMAGE_SUFFIXES
    from segedge.video.sources.images import ImageFiles, images_in_folder, images_matching

    text, path = str(spec), Path(spec)
    if path.is_dir():
        return images_in_folder(path)
    if not path.exists():
        if any(character in text for character in "*?["):
            return images_matching(text)
        raise not_found(path)
    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES + VIDEO_SUFFIXES:
        raise SourceError(
            f"{path} is of no known kind",
            facts={
                "found": f"ending {path.suffix!r}" if suffix else "no ending",
                "images": " ".join(IMAGE_SUFFIXES),
                "videos": " ".join(VIDEO_SUFFIXES),
            },
        )
    if path.is_file() and path.stat().st_size == 0:
        raise SourceError(f"{path} is empty", facts={"found": "0 bytes"}, fix="copy it again")
    if suffix in IMAGE_SUFFIXES:
        return ImageFiles([path])
    from segedge.video.sources.file import VideoFile

    return VideoFile(path, decoder=decoder, motion_vectors=motion_vectors, deinterlace=deinterlace)


def not_found(path: Path) -> SourceError:
    """The error for a file that is not there, with the nearest name that is."""
    parent = path.parent
    if not parent.is_dir():
        return SourceError(f"{path} not found", facts={"found": f"no folder {parent} either"})
    near = nearest_name(path.name, [entry.name for entry in parent.iterdir()])
    hint = f"; did you mean {parent / near}?" if near else ""
    return SourceError(f"{path} not found{hint}")
