"""ModelCard: what a segmentation network's file must say so that it can be run.

The card travels inside the ONNX file, as one JSON text under the metadata key ``segedge.card``.
This module maps cards to and from such key-value pairs and knows nothing of ONNX itself.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from segedge.card.geometry import FITS, Fit, Size
from segedge.card.labels import LabelSet, Rgb
from segedge.errors import CardError

CARD_KEY = "segedge.card"
SCHEMA = 1
"""Version of the JSON below `CARD_KEY`; raised when a reader of the old one would go wrong."""

ColorOrder = Literal["rgb", "bgr"]
ResizeRule = Literal["bilinear", "antialias", "nearest", "area"]
Head = Literal["logits", "labels"]
Layout = Literal["nchw", "nhwc"]
Activation = Literal["softmax", "sigmoid"]

RESIZE_RULES: tuple[ResizeRule, ...] = ("bilinear", "antialias", "nearest", "area")


@dataclass(frozen=True)
class Provenance:
    """Where the network came from."""

    source: str = ""
    """What was exported, without folders: ``nets.py:pidnet_s``, ``model.pt2``, ``adopted.onnx``."""
    checkpoint_sha256: str = ""
    """SHA-256 of the checkpoint file, or of the source file where there is none."""
    torch: str = ""
    """Version of PyTorch that exported it."""
    exporter: str = ""
    """Who wrote the graph, e.g. ``torch.onnx dynamo, opset 20``."""
    segedge: str = ""
    """Version of segedge that wrote the card."""


@dataclass(frozen=True)
class Parity:
    """What was measured when the exported model ran beside the original."""

    images: int
    """How many images were compared."""
    kind: Literal["images", "noise"]
    """Whether they were real images or random noise."""
    agreement: float
    """Share of unambiguous pixels with the same label, 0..1."""
    ambiguous: float
    """Share of pixels whose top-2 margin is below 1e-4 of the logit range, 0..1."""
    max_logit_error: float | None
    """Largest absolute difference of the logits (or probabilities, where the original gives those);
    None where the original gives nothing but labels."""
    sizes: tuple[str, ...] = ()
    """Input sizes at which it was measured, ``HxW``."""


@dataclass(frozen=True)
class Quantization:
    """How a network was quantized to int8, and what that cost."""

    method: str
    """How ranges were chosen: minmax, percentile, entropy or mse."""
    weight_bits: int
    """8, or 7 where the CPU's integer kernels shall not saturate."""
    images: int
    """How many images it was calibrated on."""
    images_sha256: str
    """Over the SHA-256 of each file's contents, in order."""
    layers: int
    """How many layers compute in int8."""
    kept: tuple[str, ...]
    """Names of the convolutions that stay float."""
    mac_share: float
    """Share of the convolutions' multiplications that int8 layers do, 0..1."""
    metric: Literal["miou", "agreement"]
    """What was measured: mean IoU on labelled images, or pixels with the float network's label."""
    judge: str
    """On what: simulated, or the name of a backend."""
    float_score: float
    """The float network's score, 0..1."""
    score: float
    """The quantized network's score, 0..1."""
    judged_on: str
    """The data, e.g. ``camvid/val, 101 images``."""
    max_drop: float | None = None
    """The bound that was asked for, in points; None where there was none."""
    corrections: tuple[str, ...] = ()
    """What was done to lose less, in words: equalised channels, corrected biases."""
    activations: str = "int8"
    """``int8`` with zero points of 0, or ``uint8`` for CPUs."""


@dataclass(frozen=True)
class ModelCard:
    """Everything needed to run a segmentation network on a picture and name its classes."""

    classes: tuple[str, ...]
    """Class names; the index is the label. A one-channel (sigmoid) head has two."""
    palette_rgb: tuple[Rgb, ...]
    """One RGB colour a class."""
    input_height: int
    """Height of the network's input; the preferred one where sizes are dynamic."""
    input_width: int
    """Width of the network's input."""
    label_set: str = ""
    """Name of the label set that the classes are from, or empty."""
    ignore_index: int | None = 255
    """Label in ground truth that counts for nothing."""
    color: ColorOrder = "rgb"
    """Channel order that the network wants."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Subtracted from value/255, in the network's channel order."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Divides the difference, in the network's channel order."""
    fit: Fit = "stretch"
    """How a frame of another shape is brought to the input size."""
    pad_value: int = 114
    """Value 0..255 of the letterbox border, before normalisation."""
    resize: ResizeRule = "bilinear"
    """How the frame is resampled: bilinear (no antialias, as OpenCV and torch), antialias
    (triangle filter, as Pillow), nearest, area."""
    input_layout: Layout = "nchw"
    """Axis order of the input tensor."""
    head: Head = "logits"
    """What the output holds: class logits, or labels already."""
    logits_layout: Layout = "nchw"
    """Axis order of the logits."""
    stride: int = 1
    """Input pixels per logit grid point."""
    align_corners: bool = False
    """How the grid lies on the input: corner centres aligned, else half-pixel."""
    activation: Activation = "softmax"
    """softmax over two or more channels, or sigmoid of a single one (threshold at logit 0)."""
    output: str = ""
    """Name of the graph output that holds the head; empty: the only one."""
    dynamic: tuple[str, ...] = ()
    """Which axes may vary: any of ``batch``, ``size``."""
    provenance: Provenance = field(default_factory=Provenance)
    """Where the network came from."""
    parity: Parity | None = None
    """Measured at export, or None where nothing was compared."""
    quantization: Quantization | None = None
    """How it was quantized, or None for a float network."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """Further facts, e.g. ``{"precision": "fp16"}``."""

    def __post_init__(self) -> None:
        _validate(self)

    @property
    def input_size(self) -> Size:
        """Height and width of the network's input."""
        return Size(self.input_height, self.input_width)

    def grid_size(self, shape: Sequence[int]) -> Size:
        """Height and width of the logit grid (or of the label map) in an output of this shape."""
        if self.head == "labels":
            return Size(shape[-2], shape[-1])
        first = 2 if self.logits_layout == "nchw" else 1
        return Size(shape[first], shape[first + 1])

    @property
    def channels(self) -> int:
        """Logit channels: one for a sigmoid head, else one a class."""
        return 1 if self.activation == "sigmoid" else len(self.classes)

    def labels(self) -> LabelSet:
        """Names and palette as a `LabelSet`."""
        name = self.label_set or "model"
        return LabelSet(name, self.classes, self.palette_rgb, self.ignore_index)

    def replace(self, **changes: Any) -> ModelCard:
        """A copy with some fields changed, validated again."""
        return dataclasses.replace(self, **changes)

    def to_json(self) -> str:
        """One line of JSON with its schema version."""
        return json.dumps({"schema": SCHEMA, **dataclasses.asdict(self)}, separators=(",", ":"))

    def to_metadata(self) -> dict[str, str]:
        """The card under `CARD_KEY`."""
        return {CARD_KEY: self.to_json()}

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        """Read what `to_json` wrote.

        Unknown fields of the same schema are ignored: a newer minor version may add some.

        Raises:
            CardError: It is not JSON, of a newer schema, or its fields do not fit.
        """
        try:
            fields = json.loads(text)
        except json.JSONDecodeError as error:
            raise CardError("the model card is not JSON", facts={"found": str(error)}) from error
        if not isinstance(fields, dict):
            raise CardError("the model card is no JSON object", facts={"found": repr(fields)[:60]})
        schema = fields.get("schema")
        if not isinstance(schema, int) or schema > SCHEMA:
            raise CardError(
                "the model card is of a schema that this segedge does not know",
                facts={"found": f"schema {schema}", "expected": f"at most {SCHEMA}"},
                fix="pip install --upgrade segedge",
            )
        card: ModelCard = _build(cls, fields, "card")
        return card

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> ModelCard | None:
        """The card among a file's metadata, or None where there is no `CARD_KEY`.

        Raises:
            CardError: There is one and it cannot be read.
        """
        text = metadata.get(CARD_KEY)
        return None if text is None else cls.from_json(text)


def _build(cls: Any, fields: dict[str, Any], where: str) -> Any:
    """Make a dataclass of this module from parsed JSON, lists becoming tuples."""
    hints = get_type_hints(cls)
    known = {name: value for name, value in fields.items() if name in hints}
    missing = [
        f.name
        for f in dataclasses.fields(cls)
        if f.name not in known
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise CardError(f"the model {where} lacks fields", facts={"missing": ", ".join(missing)})
    try:
        return cls(**{name: _convert(hints[name], value) for name, value in known.items()})
    except (TypeError, ValueError) as error:
        raise CardError(
            f"the model {where} has a field of the wrong type", facts={"found": str(error)}
        ) from error


def _convert(hint: Any, value: Any) -> Any:
    """One JSON value in the type that the field declares, checked to be of it."""
    if hint is Provenance or (hint == (Parity | None) and isinstance(value, dict)):
        return _build(
            Provenance if hint is Provenance else Parity, dict(value), "card's provenance or parity"
        )
    if hint == (Quantization | None) and isinstance(value, dict):
        return _build(Quantization, dict(value), "card's quantization")
    converted = _tuples(value) if isinstance(value, list) else value
    if hint is float and isinstance(converted, int) and not isinstance(converted, bool):
        converted = float(converted)
    if not _fits(hint, converted):
        name = getattr(hint, "__name__", None) if get_origin(hint) is None else None
        raise ValueError(f"{str(value)[:60]!r} is no {name or hint}")
    return converted


def _fits(hint: Any, value: Any) -> bool:
    """Whether a value is of a type that this module's fields use."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if arguments[-1] is Ellipsis:
            return all(_fits(arguments[0], item) for item in value)
        return len(value) == len(arguments) and all(map(_fits, arguments, value))
    if origin in (Union, UnionType):
        return any(_fits(argument, value) for argument in arguments)
    if origin is Mapping:
        return isinstance(value, dict) and all(
            _fits(arguments[0], k) and _fits(arguments[1], v) for k, v in value.items()
        )
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _validate(card: ModelCard) -> None:
    """Raise CardError on the first contradiction inside a card."""
    if not card.classes:
        raise CardError("a card needs at least one class")
    if len(card.palette_rgb) != len(card.classes):
        raise CardError(
            "class names and palette differ in length",
            facts={"classes": str(len(card.classes)), "colours": str(len(card.palette_rgb))},
        )
    if card.activation == "sigmoid" and len(card.classes) != 2:
        raise CardError(
            "a one-channel (sigmoid) head has two classes",
            facts={"found": ", ".join(card.classes)},
            fix="name the background first: --classes background,thing",
        )
    for name, choices in (("fit", FITS), ("resize", RESIZE_RULES), ("color", ("rgb", "bgr"))):
        if getattr(card, name) not in choices:
            raise CardError(
                f"the card's {name} is {getattr(card, name)!r}",
                facts={"expected": ", ".join(choices)},
            )
    if any(len(values) != 3 for values in (card.mean, card.std)) or 0 in card.std:
        raise CardError(
            "mean and std are three numbers each, std not zero",
            facts={"mean": str(card.mean), "std": str(card.std)},
        )
    if card.stride < 1 or card.input_height < 1 or card.input_width < 1:
        raise CardError(
            "stride and input size must be positive",
            facts={"stride": str(card.stride), "size": f"{card.input_height}x{card.input_width}"},
        )
