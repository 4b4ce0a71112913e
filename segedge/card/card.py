"""ModelCard: what a segmentation network's file must say so that it can be run.

The card travels inside the ONNX file, as one JSON text under the metadata key ``segedge.card``.
This module maps cards to and from such key-value pairs and knows nothing of ONNX itself.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, get_args

from segedge.card.axes import Layout, image_shape, rows_axis
from segedge.card.geometry import FITS, Fit, Geometry, Scaling, Size
from segedge.card.labels import LabelSet, Rgb
from segedge.card.plain import PlainError, from_plain, parse_json, to_plain
from segedge.card.ranges import (
    ADAPTATION_RANGES,
    CARD_RANGES,
    PARITY_RANGES,
    QUANTIZATION_RANGES,
    WAY_RANGES,
    check_choice,
    check_ranges,
    check_sizes,
)
from segedge.card.records import Adaptation, Parity, Provenance, Quantization
from segedge.errors import CardError

log = logging.getLogger("segedge")
CARD_KEY = "segedge.card"
SCHEMA = 2
"""Version of the JSON below `CARD_KEY`; raised when a reader of the old one would go wrong."""

ColorOrder = Literal["rgb", "bgr"]
ResizeRule = Literal[
    "bilinear", "antialias", "nearest", "area",
    "pillow-box", "pillow-bilinear", "pillow-hamming", "pillow-bicubic", "pillow-lanczos",
]  # fmt: skip
Head = Literal["logits", "labels"]
Activation = Literal["softmax", "sigmoid"]

RESIZE_RULES: tuple[ResizeRule, ...] = get_args(ResizeRule)
_SINCE_2 = ("scaling", "at_start", "pad_mean")
"""Fields of the second schema; a card without any of them is written in the first."""
_CHOICES: dict[str, tuple[str, ...]] = {
    "fit": FITS,
    "resize": RESIZE_RULES,
    "color": get_args(ColorOrder),
    "input_layout": get_args(Layout),
    "logits_layout": get_args(Layout),
    "head": get_args(Head),
    "activation": get_args(Activation),
}


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
    """Value 0..255 of the border, before normalisation."""
    resize: ResizeRule = "bilinear"
    """How the frame is resampled: bilinear (no antialias, as OpenCV and torch), antialias
    (triangle filter, as torch), nearest, area, or a filter of Pillow's, which rounds to whole
    levels."""
    scaling: Scaling | None = None
    """Size that frames are resized to before they are cut or padded; None: as the fit says."""
    at_start: bool = False
    """Whether what is padded has its border right and below only, not on all sides."""
    pad_mean: bool = False
    """Whether the border is 0 after normalisation: the mean's colour, not ``pad_value``."""
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
    adaptation: Adaptation | None = None
    """How it was fitted to a camera, or None for the network as it was trained."""
    probabilities: bool = False
    """Whether the output holds probabilities: an activation stayed inside the network."""
    mask_scale: int | None = None
    """Of a network that classifies masks: how many times these are enlarged in the graph before
    they are summed to one map a class. None: it classifies pixels."""
    pillow_resample: int | None = None
    """Pillow's code of the filter that the original was given its images by, where ``resize`` is
    only the nearest rule to it."""
    padded_at_end: bool = False
    """Whether the original padded right and below, where ``letterbox`` pads on all sides."""
    caveats: tuple[str, ...] = ()
    """Operators that not every backend computes, or computes as exported, in words."""

    def __post_init__(self) -> None:
        _validate(self)

    @property
    def input_size(self) -> Size:
        """Height and width of the network's input."""
        return Size(self.input_height, self.input_width)

    def place(self, frame: Size, network: Size | None = None) -> Geometry:
        """How a frame lies in the network's input, of another size than the card's where given."""
        return Geometry.fit(
            frame,
            network or self.input_size,
            self.fit,
            scaling=self.scaling,
            at_start=self.at_start,
        )

    def grid_size(self, shape: Sequence[int]) -> Size:
        """Height and width of the logit grid (or of the label map) in an output of this shape."""
        if self.head == "labels":
            return Size(shape[-2], shape[-1])
        first = rows_axis(self.logits_layout)
        return Size(shape[first], shape[first + 1])

    def size_of_input(self, shape: Sequence[int | None]) -> Size:
        """Height and width in an input tensor of this shape; the card's where an axis is open."""
        first = rows_axis(self.input_layout)
        return Size(shape[first] or self.input_height, shape[first + 1] or self.input_width)

    def input_shape(self, size: Size | None = None, *, batch: int = 1) -> tuple[int, int, int, int]:
        """Shape of the input tensor, at another size than the card's where one is given."""
        return image_shape(self.input_layout, size or self.input_size, batch=batch)

    @property
    def precision(self) -> Literal["float32", "int8"]:
        """What the file was made to compute in, as far as its card says."""
        return "float32" if self.quantization is None else "int8"

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
        return json.dumps(self.to_plain(), separators=(",", ":"))

    def to_plain(self) -> dict[str, Any]:
        """What JSON holds, with its schema version."""
        newest = {name: getattr(self, name) for name in _SINCE_2}
        # A reader of the first schema would leave these aside, and see other pixels.
        schema = SCHEMA if any(newest.values()) else 1
        plain = {"schema": schema, **to_plain(self)}
        return {name: value for name, value in plain.items() if newest.get(name, True)}

    def to_metadata(self) -> dict[str, str]:
        """The card under `CARD_KEY`."""
        return {CARD_KEY: self.to_json()}

    @classmethod
    @lru_cache(maxsize=8)  # an opening reads a file's card twice: to run it, and to check it
    def from_json(cls, text: str) -> ModelCard:
        """Read what `to_json` wrote.

        Unknown fields of the same schema are left aside with a warning: a newer minor version may
        add some.

        Raises:
            CardError: It is not JSON, of a newer schema, or its fields do not fit.
        """
        try:
            fields = parse_json(text)
        except ValueError as error:
            raise CardError("the model card is not JSON", facts={"found": str(error)}) from error
        return cls.from_plain(fields)

    @classmethod
    def from_plain(cls, fields: Any) -> ModelCard:
        """Read what `to_plain` gave.

        Raises:
            CardError: As `from_json`.
        """
        if not isinstance(fields, dict):
            raise CardError("the model card is no JSON object", facts={"found": repr(fields)[:60]})
        schema = fields.get("schema")
        if not isinstance(schema, int) or schema > SCHEMA:
            raise CardError(
                "the model card is of a schema that this segedge does not know",
                facts={"found": f"schema {schema}", "expected": f"at most {SCHEMA}"},
                fix="pip install --upgrade segedge",
            )
        known = {field.name for field in dataclasses.fields(cls)} | {"schema", "notes"}
        if newer := sorted(set(fields) - known):
            log.warning("the card has fields that this segedge leaves aside: %s", ", ".join(newer))
        try:
            return from_plain(cls, _without_notes(fields))
        except PlainError as error:
            part = f"card's {error.where}" if error.where else "card"
            if error.missing:
                missing = {"missing": ", ".join(error.missing)}
                raise CardError(f"the model {part} lacks fields", facts=missing) from error
            raise CardError(
                "the model card has a field of the wrong type", facts={"found": str(error)}
            ) from error

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> ModelCard | None:
        """The card among a file's metadata, or None where there is no `CARD_KEY`.

        Raises:
            CardError: There is one and it cannot be read.
        """
        text = metadata.get(CARD_KEY)
        return None if text is None else cls.from_json(text)


_PILLOW = "Pillow code "


def _without_notes(fields: dict[str, Any]) -> dict[str, Any]:
    """Facts that files before 0.1.0 said in words, under ``notes``, in fields of their own."""
    notes = fields.get("notes")
    if not isinstance(notes, dict):
        return fields
    resample = str(notes.get("resample", "")).removeprefix(_PILLOW)
    said: dict[str, Any] = {
        "probabilities": notes.get("logits") == "probabilities",
        "pillow_resample": int(resample) if resample.isdigit() else None,
        "padded_at_end": "resize_type" in notes,
    }
    return {**said, **fields}


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
    for name, choices in _CHOICES.items():
        check_choice(name, getattr(card, name), choices)
    for axis in card.dynamic:
        check_choice("dynamic", axis, ("batch", "size"))
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
    check_ranges(card, CARD_RANGES)
    check_sizes(card.input_height, card.input_width, len(card.classes), card.std)
    if card.parity is not None:
        check_ranges(card.parity, PARITY_RANGES, part="parity.")
        if card.parity.way is not None:
            check_ranges(card.parity.way, WAY_RANGES, part="parity.way.")
    if card.quantization is not None:
        check_ranges(card.quantization, QUANTIZATION_RANGES, part="quantization.")
    if card.adaptation is not None:
        check_ranges(card.adaptation, ADAPTATION_RANGES, part="adaptation.")
