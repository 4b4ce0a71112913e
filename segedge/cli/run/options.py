"""The options of `segedge run`, in groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from segedge.cli.groups import Option
from segedge.cli.options import (
    AsJson,
    Backend,
    CheckGroup,
    CleaningGroup,
    MotionGroup,
    Opacity,
    SlideGroup,
    Threads,
    parse_seconds,
    parse_words,
)
from segedge.cli.run.analyse import AnalyseGroup
from segedge.cli.run.harvest import HarvestGroup
from segedge.errors import UsageError
from segedge.pipeline.mailbox import Policy
from segedge.video.formats import Codec, Masks
from segedge.video.options import Decoder, SourceOptions, parse_size

if TYPE_CHECKING:
    from segedge.frames.protocols import Analysis
    from segedge.options.smoothing import Smoothing
    from segedge.options.style import OverlayStyle
    from segedge.video.sinks.open import SinkOptions


@dataclass(frozen=True)
class PictureGroup:
    """What is drawn."""

    panel: ClassVar[str] = "Picture"
    masks: Annotated[
        Masks | None,
        "Folders and images hold class indices: raw, with the palette, or as COCO's panoptic.",
    ] = None
    opacity: Opacity = 0.5
    classes: Annotated[
        str, "Colour these classes only, or keep them as foreground: person,car."
    ] = ""
    legend: Annotated[bool, "Draw names and shares."] = False
    effect: Annotated[
        str,
        Option(
            "overlay, mask, cutout, blur or replace (of the background), outline, side-by-side,"
            " heat.",
            metavar="NAME",
        ),
    ] = "overlay"
    background: Annotated[
        str, Option("What --effect replace puts behind the foreground.", metavar="FILE|#RRGGBB")
    ] = ""
    edge: Annotated[float, "Softness of a foreground's edge, in logits; small is hard."] = 1.0
    blur: Annotated[float, "Of --effect blur, as a share of the height."] = 0.02
    heat: Annotated[
        str, Option("What --effect heat shows: confidence or entropy.", metavar="NAME")
    ] = "confidence"

    @cached_property
    def style(self) -> OverlayStyle:
        """All but the masks."""
        from segedge.options.effect import Effect
        from segedge.options.style import OverlayStyle

        effect = Effect(self.effect, self.background, self.edge, self.blur, self.heat)  # type: ignore[arg-type]
        classes = parse_words([self.classes]) or None
        return OverlayStyle(self.opacity, classes, self.legend, effect)


@dataclass(frozen=True)
class SmoothingGroup:
    """How videos are steadied."""

    panel: ClassVar[str] = "Steadier video"
    smooth: Annotated[
        str | None,
        Option(
            "Lean on earlier frames where the image is still; 0.9 where nothing is said, below 1.",
            metavar="[STRENGTH]",
        ),
    ] = None
    smooth_images: Annotated[bool, "Images, too: they are the frames of a video, in order."] = False
    flicker: Annotated[
        bool | None, "Count labels that change where the image does not; with --smooth it is on."
    ] = None

    @cached_property
    def value(self) -> Smoothing | None:
        """None where neither smoothing nor counting is wanted."""
        from segedge.options.smoothing import Smoothing

        text = self.smooth
        if text is None:
            return Smoothing(strength=0.0, flicker=True) if self.flicker else None
        try:
            strength = float(text) if text else Smoothing.strength
        except ValueError:
            facts = {"expected": "a number, 0 to below 1"}
            raise UsageError(f"no strength {text!r}", facts=facts, fix="--smooth") from None
        return Smoothing(strength=strength, flicker=self.flicker is not False)


@dataclass(frozen=True)
class CaptureGroup:
    """How sources are opened."""

    panel: ClassVar[str] = "Sources"
    size: Annotated[str, "WIDTHxHEIGHT, or 720p, asked of a camera or test pattern."] = ""
    source_fps: Annotated[float | None, "Rate asked of a camera or test pattern."] = None
    pixel_format: Annotated[str | None, "What a camera sends: mjpeg, yuyv422, nv12, h264."] = None
    decoder: Annotated[Decoder, "Where video is decoded."] = "auto"
    deinterlace: Annotated[bool, "Make whole pictures of an interlaced video file."] = False
    pace: Annotated[bool, "Files at their own rate."] = False
    timeout: Annotated[float, "Seconds without a frame after which a live source is lost."] = 5.0
    reconnect: Annotated[bool, "Open a lost live source again."] = True
    as_video: Annotated[
        bool, "Images are the frames of a video, in order: for --every and --smooth."
    ] = False

    @cached_property
    def value(self) -> SourceOptions:
        """The same, read."""
        return SourceOptions(
            size=parse_size(self.size) if self.size else None,
            fps=self.source_fps,
            pixel_format=self.pixel_format,
            decoder=self.decoder,
            deinterlace=self.deinterlace,
            pace=self.pace,
            reconnect=self.reconnect,
            timeout_seconds=self.timeout,
        )


@dataclass(frozen=True)
class RecordingGroup:
    """How videos are written."""

    panel: ClassVar[str] = "Recording"
    codec: Annotated[Codec, "What videos and streams hold."] = "h264"
    encoder: Annotated[str, "FFmpeg's name of an encoder; auto: the first that works here."] = (
        "auto"
    )
    crf: Annotated[int | None, Option("Quality of a video; lower is better.", min=0, max=63)] = None
    preset: Annotated[str | None, "The encoder's trade of time for size."] = None
    fps: Annotated[float | None, "Rate of a video made; None: the source's."] = None
    audio: Annotated[bool, "Copy the sound of a video file, unchanged."] = True
    segment: Annotated[str | None, "A new file every 30s, 10m or 1h."] = None

    @cached_property
    def segment_seconds(self) -> float | None:
        """Length of the files that a recording is cut into; None is one file."""
        return parse_seconds(self.segment, option="--segment")

    def sink_options(
        self, make_analyses: Callable[[], Sequence[Analysis]], *, alpha: bool
    ) -> SinkOptions:
        """With what the other groups say."""
        from segedge.video.sinks.open import SinkOptions

        return SinkOptions(
            codec=self.codec,
            encoder=self.encoder,
            crf=self.crf,
            preset=self.preset,
            fps=self.fps,
            segment_seconds=self.segment_seconds,
            audio=self.audio,
            make_analyses=make_analyses,
            alpha=alpha,
        )


@dataclass(frozen=True)
class FlowGroup:
    """Who looks on, what is dropped, and when the run ends."""

    panel: ClassVar[str] = "Run"
    live: Annotated[
        str | None,
        Option(
            "Serve a page with the video and the figures; 127.0.0.1:8090 where nothing is said.",
            metavar="[HOST:PORT]",
        ),
    ] = None
    token: Annotated[str | None, "What viewers of --live must know; None: made up."] = None
    policy: Annotated[
        Policy | None, "latest drops frames to stay current (live sources), lossless waits (files)."
    ] = None
    duration: Annotated[str | None, "End after 90s, 10m or 1h of video."] = None
    frames: Annotated[int | None, Option("End after so many frames a source.", min=1)] = None
    fail_fast: Annotated[bool, "The first source that fails ends the others."] = False

    def __post_init__(self) -> None:
        if self.token is not None and self.live is None:
            raise UsageError("--token is for the live view", fix="add --live")

    @cached_property
    def seconds(self) -> float | None:
        """When to end."""
        return parse_seconds(self.duration, option="--duration")


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What was asked for, in one piece."""

    model: Annotated[
        Path,
        typer.Argument(help="An ONNX file with its card, or grpc://HOST:8001/MODEL on a server."),
    ]
    sources: Annotated[
        list[str],
        typer.Argument(
            help="An image, folder, glob in quotes, video, camera (0 or /dev/video0), address"
            " (rtsp://, http://, tcp://, udp://), test:720p30; several run side by side."
        ),
    ]
    output: Annotated[
        list[str] | None,
        Option(
            "x.mp4, x.png, folder/, contact:x.jpg, x.jsonl, window or an address; any number of"
            " times. With several sources a folder/, or {name} or {index} in it. None: times only.",
            "-o --out",
        ),
    ] = None
    picture: PictureGroup
    cleaning: CleaningGroup
    regions: Annotated[
        bool,
        Option(
            "Add outlines, boxes and areas of the regions to -o x.jsonl (of --classes only).",
            panel=CleaningGroup.panel,
        ),
    ] = False
    slide: SlideGroup
    smoothing: SmoothingGroup
    motion: MotionGroup
    check: CheckGroup
    backend: Backend = "auto"
    threads: Threads = 0
    card: Annotated[Path | None, "Take the card of this ONNX file (for a .pt2 program)."] = None
    capture: CaptureGroup
    recording: RecordingGroup
    flow: FlowGroup
    analyse: AnalyseGroup
    harvest: HarvestGroup
    as_json: AsJson = False

    def __post_init__(self) -> None:
        if self.smoothing.smooth_images and self.smoothing.value is None:
            raise UsageError("--smooth-images without smoothing", fix="add --smooth")
        if self.slide.value is not None and self.harvest.value is not None:
            raise UsageError(
                "a harvest scores the logits of whole frames, and --slide has none",
                fix="leave out --slide or --harvest",
            )
        if self.as_json and "-" in self.outputs:
            raise UsageError(
                "--json and -o - both write to standard output", fix="-o frames.jsonl --json"
            )
        lines = [out for out in self.outputs if out == "-" or out.lower().endswith(".jsonl")]
        if self.regions and not lines:
            raise UsageError("--regions needs JSON lines to go into", fix="add -o frames.jsonl")

    @property
    def outputs(self) -> Sequence[str]:
        """Where results go."""
        return self.output or ()

    @property
    def source_options(self) -> SourceOptions:
        """How sources are opened, with what `motion` wants of them."""
        motion = self.motion.value
        needs_vectors = motion is not None and motion.needs_vectors
        return replace(self.capture.value, motion_vectors=needs_vectors)

    @property
    def are_images_video(self) -> bool:
        """Whether images are the frames of a video, in order."""
        return self.capture.as_video or self.smoothing.smooth_images

    @property
    def is_quiet(self) -> bool:
        """Whether standard output belongs to something else than tables."""
        return self.as_json or "-" in self.outputs
