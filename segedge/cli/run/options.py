"""The options of `segedge run`: their spelling and help, and what they amount to together."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from segedge.cli.options import CLEANING, PICTURE, SMOOTHING
from segedge.cli.run.analyse import AnalyseOptions
from segedge.errors import UsageError

if TYPE_CHECKING:
    from segedge.harvest.options import HarvestOptions
    from segedge.options.cleaning import Cleaning
    from segedge.options.sliding import Slide
    from segedge.options.smoothing import Smoothing
    from segedge.options.style import OverlayStyle

Masks = Literal["labels", "palette", "panoptic"]
PolicyName = Literal["latest", "lossless"]
DecoderName = Literal["auto", "cpu", "nvdec"]
CodecName = Literal["h264", "h265", "av1", "vp9"]

_SOURCES, _FILES, _RUN = "Sources", "Recording", "Run"

Model = Annotated[
    Path, typer.Argument(help="An ONNX file with its card, or grpc://HOST:8001/MODEL on a server.")
]
Sources = Annotated[
    list[str],
    typer.Argument(
        help="An image, folder, glob in quotes, video, camera (0 or /dev/video0), address"
        " (rtsp://, http://, tcp://, udp://), test:720p30; several run side by side."
    ),
]
Output = Annotated[
    list[str] | None,
    typer.Option(
        "-o", "--out",
        help="x.mp4, x.png, folder/, contact:x.jpg, x.jsonl, window or an address; any number of"
        " times."
        " With several sources a folder/, or {name} or {index} in it. None: times only.",
    ),
]  # fmt: skip
MasksOption = Annotated[
    Masks | None,
    typer.Option(
        help="Folders and images hold class indices: raw, with the palette, or as COCO's panoptic.",
        rich_help_panel=PICTURE,
    ),
]
Classes = Annotated[
    str,
    typer.Option(
        help="Colour these classes only, or keep them as foreground: person,car.",
        rich_help_panel=PICTURE,
    ),
]
EffectOption = Annotated[
    str,
    typer.Option(
        "--effect",
        metavar="NAME",
        help="overlay, mask, cutout, blur or replace (of the background), outline, side-by-side,"
        " heat.",
        rich_help_panel=PICTURE,
    ),
]
Background = Annotated[
    str,
    typer.Option(
        metavar="FILE|#RRGGBB",
        help="What --effect replace puts behind the foreground.",
        rich_help_panel=PICTURE,
    ),
]
Edge = Annotated[
    float,
    typer.Option(
        help="Softness of a foreground's edge, in logits; small is hard.",
        rich_help_panel=PICTURE,
    ),
]
BlurOption = Annotated[
    float,
    typer.Option(help="Of --effect blur, as a share of the height.", rich_help_panel=PICTURE),
]
Heat = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="What --effect heat shows: confidence or entropy.",
        rich_help_panel=PICTURE,
    ),
]
Legend = Annotated[
    bool, typer.Option("--legend", help="Draw names and shares.", rich_help_panel=PICTURE)
]
Regions = Annotated[
    bool,
    typer.Option(
        "--regions",
        help="Add outlines, boxes and areas of the regions to -o x.jsonl (of --classes only).",
        rich_help_panel=CLEANING,
    ),
]
SmoothImages = Annotated[
    bool,
    typer.Option(
        "--smooth-images",
        help="Images, too: they are the frames of a video, in order.",
        rich_help_panel=SMOOTHING,
    ),
]
Card = Annotated[
    Path | None, typer.Option(help="Take the card of this ONNX file (for a .pt2 program).")
]
Size = Annotated[
    str,
    typer.Option(
        help="WIDTHxHEIGHT, or 720p, asked of a camera or test pattern.", rich_help_panel=_SOURCES
    ),
]
SourceFps = Annotated[
    float | None,
    typer.Option(help="Rate asked of a camera or test pattern.", rich_help_panel=_SOURCES),
]
PixelFormat = Annotated[
    str | None,
    typer.Option(help="What a camera sends: mjpeg, yuyv422, nv12, h264.", rich_help_panel=_SOURCES),
]
DecoderOption = Annotated[
    DecoderName, typer.Option(help="Where video is decoded.", rich_help_panel=_SOURCES)
]
Pace = Annotated[
    bool, typer.Option("--pace", help="Files at their own rate.", rich_help_panel=_SOURCES)
]
Timeout = Annotated[
    float,
    typer.Option(
        help="Seconds without a frame after which a live source is lost.",
        rich_help_panel=_SOURCES,
    ),
]
Reconnect = Annotated[
    bool, typer.Option(help="Open a lost live source again.", rich_help_panel=_SOURCES)
]
CodecOption = Annotated[
    CodecName, typer.Option(help="What videos and streams hold.", rich_help_panel=_FILES)
]
Encoder = Annotated[
    str,
    typer.Option(
        help="FFmpeg's name of an encoder; auto: the first that works here.",
        rich_help_panel=_FILES,
    ),
]
Crf = Annotated[
    int | None,
    typer.Option(
        min=0, max=63, help="Quality of a video; lower is better.", rich_help_panel=_FILES
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(help="The encoder's trade of time for size.", rich_help_panel=_FILES),
]
Fps = Annotated[
    float | None,
    typer.Option(help="Rate of a video made; None: the source's.", rich_help_panel=_FILES),
]
Segment = Annotated[
    str | None,
    typer.Option(help="A new file every 30s, 10m or 1h.", rich_help_panel=_FILES),
]
Live = Annotated[
    str | None,
    typer.Option(
        metavar="[HOST:PORT]",
        help="Serve a page with the video and the figures; 127.0.0.1:8090 where nothing is said.",
        rich_help_panel=_RUN,
    ),
]
Token = Annotated[
    str | None,
    typer.Option(help="What viewers of --live must know; None: made up.", rich_help_panel=_RUN),
]
PolicyOption = Annotated[
    PolicyName | None,
    typer.Option(
        help="latest drops frames to stay current (live sources), lossless waits (files).",
        rich_help_panel=_RUN,
    ),
]
Duration = Annotated[
    str | None,
    typer.Option(help="End after 90s, 10m or 1h of video.", rich_help_panel=_RUN),
]
Frames = Annotated[
    int | None,
    typer.Option(min=1, help="End after so many frames a source.", rich_help_panel=_RUN),
]
FailFast = Annotated[
    bool,
    typer.Option(
        "--fail-fast", help="The first source that fails ends the others.", rich_help_panel=_RUN
    ),
]


@dataclass(frozen=True)
class RunOptions:
    """What was asked for, in one piece."""

    model: Path
    sources: tuple[str, ...]
    outputs: tuple[str, ...]
    style: OverlayStyle
    cleaning: Cleaning
    slide: Slide | None = None
    regions: bool = False
    smoothing: Smoothing | None = None
    smooth_images: bool = False
    masks: Masks | None = None
    backend: str = "auto"
    threads: int = 0
    card: Path | None = None
    size: str = ""
    source_fps: float | None = None
    pixel_format: str | None = None
    decoder: DecoderName = "auto"
    pace: bool = False
    timeout_seconds: float = 5.0
    reconnect: bool = True
    codec: CodecName = "h264"
    encoder: str = "auto"
    crf: int | None = None
    preset: str | None = None
    fps: float | None = None
    segment: str | None = None
    live: str | None = None
    """None: no live view; empty: at its usual place."""
    token: str | None = None
    policy: PolicyName | None = None
    seconds: float | None = None
    frames: int | None = None
    fail_fast: bool = False
    as_json: bool = False
    analyse: AnalyseOptions = field(default_factory=AnalyseOptions)
    """Road, zones and ground."""
    harvest: HarvestOptions | None = None
    """What to keep for labelling; None: nothing."""

    def __post_init__(self) -> None:
        if self.smooth_images and self.smoothing is None:
            raise UsageError("--smooth-images without smoothing", fix="add --smooth")
        if self.slide is not None and self.harvest is not None:
            raise UsageError(
                "a harvest scores the logits of whole frames, and --slide has none",
                fix="leave out --slide or --harvest",
            )
        if self.token is not None and self.live is None:
            raise UsageError("--token is for the live view", fix="add --live")
        if self.as_json and "-" in self.outputs:
            raise UsageError(
                "--json and -o - both write to standard output", fix="-o frames.jsonl --json"
            )

        lines = [out for out in self.outputs if out == "-" or out.lower().endswith(".jsonl")]
        if self.regions and not lines:
            raise UsageError("--regions needs JSON lines to go into", fix="add -o frames.jsonl")

    @property
    def is_quiet(self) -> bool:
        """Whether standard output belongs to something else than tables."""
        return self.as_json or "-" in self.outputs
