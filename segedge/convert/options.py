"""What can be asked of an export, and what comes back from one: plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from segedge.card.card import ColorOrder, ModelCard, ResizeRule
from segedge.card.geometry import Fit, Size
from segedge.errors import UsageError

DEFAULT_OPSET = 20
"""What TensorRT 10.3 (JetPack 6) up to today's reads, and torch's exporter writes by default."""
DynamicAxis = Literal["batch", "size"]
Origin = Literal["option", "source", "network", "assumed"]
"""Who says something: the user, the source, what the graph allows, or nobody."""
_MASK_SCALES = (1, 2, 4)
_LARGEST_MEAN = 2.0
"""A mean of values 0..1 lies well below, one of 0..255 well above."""
Progress = Callable[[str, float], None]
"""Called with what is being done now and the share of the whole that is behind, 0..1."""


@dataclass(frozen=True)
class ExportOptions:
    """How a network is to be exported. Only what the source does not say itself must be given."""

    checkpoint: Path | None = None
    """Weights for a factory source: a state dict (.pth, .pt, .ckpt ...) or .safetensors."""
    checkpoint_key: str | None = None
    """Which of the checkpoint's state dicts is meant. None: the one that fits, averaged weights
    first."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments for the factory."""
    size: Size | None = None
    """Input size of the network."""
    classes: str | tuple[str, ...] | None = None
    """A label set's name, a comma list, a text file with a name a line, or the names themselves."""
    mean: tuple[float, float, float] | None = None
    """Subtracted from value/255. None: what the source says, else ImageNet's."""
    std: tuple[float, float, float] | None = None
    """Divides the difference. None: what the source says, else ImageNet's."""
    color: ColorOrder | None = None
    """Channel order that the network wants. None: what the source says, else RGB."""
    fit: Fit | None = None
    """How frames of another shape are brought to the input size."""
    resize: ResizeRule | None = None
    """How frames are resampled."""
    align_corners: bool | None = None
    """How the training code enlarges the logits that the graph ends at: corners aligned, or
    half-pixel. None: as the graph says, else half-pixel."""
    threshold: float | None = None
    """Of a network that gives one channel: the value, as it writes it, from which on a pixel is of
    the second class. None: 0 of logits, half of the range of probabilities."""
    dynamic: tuple[DynamicAxis, ...] = ()
    """Axes that may vary in the exported file."""
    keep_tail: bool | None = None
    """Leave upsample, softmax and argmax in the graph. None: only where a Hugging Face folder's own
    pipeline, which may enlarge in steps, has another label at more than 0.5 % of the pixels (0.1 %
    of noise) without them."""
    output: str | None = None
    """Index or name of the output that holds the main head."""
    masks: tuple[str, str] | None = None
    """Indices or names of the outputs that hold class logits and mask logits of queries. None:
    found by their usual names."""
    mask_scale: int | None = None
    """How many times the masks are enlarged in the graph before they are summed: 1, 2 or 4. None:
    1 where the network's own post-processing sums them as they come, else 2."""
    verify: Path | str | None = None
    """An image, a folder, a glob or a video to measure parity on; noise where there is none."""
    verify_images: int = 24
    """At most so many images, evenly sampled."""
    opset: int = DEFAULT_OPSET
    """ONNX operator set. An adopted ONNX file keeps its own."""

    @property
    def overrides_preprocessing(self) -> bool:
        """Whether the user wants another preprocessing than the source's own."""
        asked = (self.color, self.mean, self.std, self.fit, self.resize)
        return any(value is not None for value in asked)

    def __post_init__(self) -> None:
        if self.checkpoint_key is not None and self.checkpoint is None:
            raise UsageError(
                "--key names weights in a checkpoint, and there is none",
                fix="name it: --checkpoint FILE",
            )
        unknown = [axis for axis in self.dynamic if axis not in ("batch", "size")]
        if unknown:
            raise UsageError(f"no dynamic axis {unknown[0]!r}", facts={"known": "batch, size"})
        if self.mean is not None and max(self.mean) > _LARGEST_MEAN:
            std = self.std or (1.0, 1.0, 1.0)
            raise UsageError(
                "--mean and --std are of values 0..1, not 0..255",
                facts={"mean": ", ".join(f"{value:g}" for value in self.mean)},
                fix=f"--mean {_scaled(self.mean)} --std {_scaled(std)}",
            )
        if self.masks is not None and self.output is not None:
            raise UsageError(
                "--output names a head of pixels, --head masks: one of masks",
                fix="give one of them",
            )
        if self.mask_scale not in (None, *_MASK_SCALES):
            raise UsageError(
                f"masks cannot be enlarged {self.mask_scale} times",
                facts={"expected": "1, 2 or 4"},
                fix="--mask-scale 1",
            )
        if not 11 <= self.opset <= 26:
            raise UsageError(
                f"opset {self.opset} is out of range",
                facts={"expected": "11 to 26"},
                fix=f"--opset {min(max(self.opset, 11), 26)}",
            )


@dataclass(frozen=True)
class CheckpointReport:
    """What was loaded from a checkpoint."""

    file: str
    """Name of the file, without folders."""
    sha256: str
    """SHA-256 of the file."""
    loaded: int
    """Tensors that the network took."""
    expected: int
    """Tensors that the network has."""
    key: str = ""
    """Where in the file the state dict was, e.g. ``state_dict``; empty: at the top."""
    prefix: str = ""
    """Prefix that was removed from the names, e.g. ``module.``."""
    others: tuple[str, ...] = ()
    """Where other weights are that would fit, too."""
    ignored: tuple[str, ...] = ()
    """Tensors of the checkpoint without a place in the network (counters, auxiliary heads)."""
    nameless: tuple[str, ...] = ()
    """Where lists of tensors are that have no names, averaged weights mostly: they are left out."""
    epoch: int | None = None
    """The epoch, where the file names one."""


@dataclass(frozen=True)
class PassReport:
    """What one pass over the graph did."""

    name: str
    """The pass."""
    changed: bool
    """Whether it changed anything."""
    detail: str = ""
    """What it did, or why it did nothing."""


@dataclass(frozen=True)
class TailReport:
    """What was done with upsample, softmax and argmax at the network's end."""

    cut: bool
    """Whether anything was removed."""
    removed: tuple[str, ...] = ()
    """What was removed, in the order of computation, e.g. ``Resize x8 bilinear``."""
    saved_bytes: int = 0
    """Bytes of full-size tensors a frame that are no longer made."""
    reason: str = ""
    """Why nothing, or not more, was removed."""


@dataclass(frozen=True)
class ExportReport:
    """What an export made."""

    path: Path
    """The file that was written."""
    card: ModelCard
    """The card inside it."""
    kind: str
    """What the source was: factory, program, torchscript, huggingface or onnx."""
    input_shape: tuple[int | str, ...]
    """Shape of the input tensor; names stand for dynamic axes."""
    output_shape: tuple[int | str, ...]
    """Shape of the output tensor."""
    channels: int
    """Channels of the class logits, or the number of classes of a labels head."""
    opset: int
    """Operator set, read back from the file."""
    nodes: int
    """Nodes in the graph."""
    nodes_before: int
    """Nodes in the graph as the exporter or the adopted file had it."""
    size_bytes: int
    """Size of the file."""
    tail: TailReport
    """What was cut."""
    passes: tuple[PassReport, ...]
    """All passes, in order."""
    prepared: Mapping[str, Origin] = field(default_factory=dict)
    """Who says color, mean, std, fit and resize of the card."""
    checkpoint: CheckpointReport | None = None
    """What was loaded, for factory sources with a checkpoint."""
    notes: tuple[str, ...] = ()
    """What the user should know, a sentence each."""


def _scaled(values: tuple[float, ...]) -> str:
    """Values of 0..255 as those of 0..1."""
    return ",".join(f"{value / 255:.4g}" for value in values)
