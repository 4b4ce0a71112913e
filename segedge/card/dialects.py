"""Cards in other tongues: what Ultralytics, OpenVINO Model API and Hugging Face files say.

Three dialects describe the same facts differently:

- *Ultralytics* puts ``names`` (a Python dict as text), ``imgsz`` (a list as text), ``stride`` and
  ``task`` into ``metadata_props``. There is no mean or std: its networks take RGB in 0..1, and
  frames are letterboxed with grey 114.
- *OpenVINO Model API* puts ``model_info <field>`` there: labels separated by spaces (spaces inside
  a name written as ``_``), mean and scale in 0..255 units.
- *Hugging Face* keeps ``config.json`` and ``preprocessor_config.json`` beside the weights.

Nothing here is executed: Python texts are parsed as literals only.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from segedge.card.card import ModelCard, ResizeRule
from segedge.card.geometry import Fit, Size
from segedge.card.plain import parse_json
from segedge.errors import CardError

_INFO = "model_info "
_FIT_OF_RESIZE_TYPE: dict[str, Fit] = {
    "standard": "stretch",
    "fit_to_window": "letterbox",
    "fit_to_window_letterbox": "letterbox",
    "crop": "crop",
}
_RESIZE_TYPE_OF_FIT: dict[Fit, str] = {
    "stretch": "standard",
    "letterbox": "fit_to_window_letterbox",
    "crop": "crop",
}
_RULE_OF_RESAMPLE: dict[int, ResizeRule] = {
    0: "nearest",
    1: "antialias",
    2: "antialias",
    3: "antialias",
    4: "area",
    5: "antialias",
}
"""Pillow's resampling codes. Its bilinear (2) is antialiased; the sharper filters (1, 3, 5) have
no rule of their own, the triangle filter is the nearest to them."""
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class HuggingFaceFolder:
    """What a Hugging Face folder says, before its network has been looked at."""

    classes: tuple[str, ...]
    """Class names in label order."""
    input_size: Size | None
    """Size that its preprocessor resizes to, where it names height and width."""
    mean: Triple
    """In units of value/255, as on a `ModelCard`."""
    std: Triple
    """In units of value/255."""
    resize: ResizeRule
    """How its preprocessor resamples."""
    fit: Fit
    """stretch, or crop where the preprocessor keeps the shape and crops the centre."""
    pillow_resample: int | None
    """Pillow's code of its filter, where ``resize`` is only the nearest rule to it."""


def class_names(metadata: Mapping[str, str]) -> tuple[str, ...] | None:
    """The class names that either dialect gives, in label order; None where neither does."""
    if "names" in metadata:
        return _ultralytics_names(metadata["names"])
    labels = metadata.get(f"{_INFO}labels")
    return tuple(name.replace("_", " ") for name in labels.split()) if labels else None


def image_size(metadata: Mapping[str, str]) -> Size | None:
    """The input size that Ultralytics' ``imgsz`` names, or None."""
    try:
        value = ast.literal_eval(metadata.get("imgsz", ""))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    sides = [value, value] if isinstance(value, int) else value
    if not isinstance(sides, (list, tuple)) or len(sides) != 2:
        return None
    height, width = sides
    if not isinstance(height, int) or not isinstance(width, int) or min(height, width) < 1:
        return None
    return Size(height, width)


def foreign_metadata(card: ModelCard) -> dict[str, str]:
    """The card in both dialects, to be written beside our own key."""
    scale = 255.0
    return {
        "task": "semantic",
        "names": repr(dict(enumerate(card.classes))),
        "imgsz": repr([card.input_height, card.input_width]),
        "stride": str(card.stride),
        f"{_INFO}model_type": "Segmentation",
        f"{_INFO}labels": " ".join(name.replace(" ", "_") for name in card.classes),
        f"{_INFO}mean_values": _numbers(value * scale for value in card.mean),
        f"{_INFO}scale_values": _numbers(value * scale for value in card.std),
        f"{_INFO}reverse_input_channels": str(card.color == "rgb"),
        f"{_INFO}resize_type": _RESIZE_TYPE_OF_FIT[card.fit],
        f"{_INFO}pad_value": str(card.pad_value),
    }


def read_huggingface(folder: str | Path) -> HuggingFaceFolder:
    """Read ``config.json`` and ``preprocessor_config.json`` of a local Hugging Face folder.

    A missing preprocessor file means the defaults of SegFormer's: ImageNet mean and std.
    """
    config = _json(Path(folder) / "config.json")
    id2label = config.get("id2label")
    if not isinstance(id2label, dict) or not id2label:
        raise CardError(
            f"{Path(folder).name}/config.json names no classes", facts={"expected": "id2label"}
        )
    if not all(key.isdecimal() for key in id2label):
        raise CardError(
            f"{Path(folder).name}/config.json has classes without a number",
            facts={"expected": '"id2label": {"0": "road", ...}', "found": str(id2label)[:60]},
        )
    names = tuple(str(name) for _, name in sorted(id2label.items(), key=lambda kv: int(kv[0])))
    file = Path(folder) / "preprocessor_config.json"
    if not file.is_file():
        file = Path(folder) / "processor_config.json"
    given = _json(file) if file.is_file() else {}
    settings = given.get("image_processor", given)
    try:
        mean, std = _huggingface_normalisation(settings)
        resample = int(settings.get("resample", 2) or 0)
        size = _huggingface_size(settings)
    except (AttributeError, TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
        raise CardError(
            f"{file.name} does not say how images are prepared", facts={"found": str(error)}
        ) from error
    return HuggingFaceFolder(
        classes=names,
        input_size=size,
        mean=mean,
        std=std,
        resize=_RULE_OF_RESAMPLE.get(resample, "antialias"),
        fit="crop" if settings.get("do_center_crop") else "stretch",
        pillow_resample=resample if resample in (1, 3, 5) else None,
    )


def with_foreign_preprocessing(card: ModelCard, metadata: Mapping[str, str]) -> ModelCard:
    """A card with the preprocessing that Model API's keys say, or that is Ultralytics' habit.

    A card comes back as it is where there are no such keys.
    """
    if not any(key.startswith(_INFO) for key in metadata):
        if "names" not in metadata:
            return card
        return replace(
            card, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), fit="letterbox", pad_value=114
        )
    kind = metadata.get(f"{_INFO}resize_type", "standard")
    fit = _FIT_OF_RESIZE_TYPE.get(kind)
    if fit is None:
        raise CardError(
            f"the file's metadata names resize type {kind!r}",
            facts={"expected": ", ".join(_FIT_OF_RESIZE_TYPE)},
            fix="say it yourself: --fit stretch|letterbox|crop",
        )
    # Without the flag Model API hands OpenCV's BGR on as it is.
    reverse = metadata.get(f"{_INFO}reverse_input_channels", "False").strip().lower()
    pad = metadata.get(f"{_INFO}pad_value", "0")
    return replace(
        card,
        color="rgb" if reverse in ("true", "1", "yes") else "bgr",
        mean=_triple(metadata, "mean_values", 0.0),
        std=_triple(metadata, "scale_values", 1.0),
        fit=fit,
        pad_value=int(float(pad)) if pad.replace(".", "", 1).isdecimal() else 0,
        padded_at_end=kind == "fit_to_window",
    )


def _ultralytics_names(text: str) -> tuple[str, ...]:
    """``{0: 'road', 1: 'car'}`` or ``['road', 'car']``, parsed as a literal."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise CardError(
            "the file's metadata key 'names' cannot be read", facts={"found": text[:60]}
        ) from error
    if isinstance(value, dict) and value.keys() == set(range(len(value))):
        value = [value[index] for index in range(len(value))]
    if not isinstance(value, (list, tuple)) or not value:
        raise CardError(
            "the file's metadata key 'names' is no list of names", facts={"found": text[:60]}
        )
    return tuple(str(name) for name in value)


def _triple(metadata: Mapping[str, str], field: str, default: float) -> Triple:
    """Three 0..255 numbers as 0..1, one number standing for all."""
    text = metadata.get(f"{_INFO}{field}", "").replace(",", " ").strip("[] ")
    try:
        values = [float(part) / 255.0 for part in text.split()] or [default / 255.0]
    except ValueError as error:
        raise CardError(
            f"the file's metadata key '{_INFO}{field}' holds no numbers", facts={"found": text[:60]}
        ) from error
    if len(values) == 1:
        values *= 3
    if len(values) != 3:
        raise CardError(f"the file's metadata key '{_INFO}{field}' has {len(values)} numbers")
    return values[0], values[1], values[2]


def _numbers(values: Any) -> str:
    return " ".join(f"{value:.9g}" for value in values)


def _json(file: Path) -> dict[str, Any]:
    """A JSON object from a file of a Hugging Face folder."""
    try:
        value = parse_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CardError(
            f"{file.parent.name} has no {file.name}", fix="name a folder saved by save_pretrained()"
        ) from error
    except ValueError as error:
        raise CardError(f"{file.name} is not JSON", facts={"found": str(error)}) from error
    if not isinstance(value, dict):
        raise CardError(f"{file.name} is no JSON object")
    return value


def _huggingface_normalisation(settings: Mapping[str, Any]) -> tuple[Triple, Triple]:
    """``(value * factor - mean) / std`` rewritten for values divided by 255."""
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if settings.get("do_normalize", True):
        mean = tuple(settings.get("image_mean", (0.485, 0.456, 0.406)))
        std = tuple(settings.get("image_std", (0.229, 0.224, 0.225)))
    if len(mean) != 3 or len(std) != 3:
        raise CardError("image_mean and image_std are not three numbers each")
    factor = settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 1.0
    unit = 255.0 * float(factor)
    # 255 * (1/255) is not 1 in floating point; the usual case should stay the numbers people know.
    unit = 1.0 if abs(unit - 1.0) < 1e-6 else unit
    scaled = [tuple(float(value) / unit for value in values) for values in (mean, std)]
    return scaled[0], scaled[1]  # type: ignore[return-value]


def _huggingface_size(settings: Mapping[str, Any]) -> Size | None:
    """``size`` as a number or as height and width; other forms name no fixed size."""
    if not settings.get("do_resize", True):
        return None
    size = settings.get("crop_size" if settings.get("do_center_crop") else "size")
    if isinstance(size, int):
        return Size(size, size)
    if isinstance(size, dict) and "height" in size and "width" in size:
        return Size(int(size["height"]), int(size["width"]))
    return None
