"""Cards in other tongues: what Ultralytics' and OpenVINO Model API's files say.

Two dialects describe the same facts differently:

- *Ultralytics* puts ``names`` (a Python dict as text), ``imgsz`` (a list as text), ``stride`` and
  ``task`` into ``metadata_props``. There is no mean or std: its networks take RGB in 0..1, and
  frames are letterboxed with grey 114.
- *OpenVINO Model API* puts ``model_info <field>`` there: labels separated by spaces (spaces inside
  a name written as ``_``), mean and scale in 0..255 units.

Nothing here is executed: Python texts are parsed as literals only.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from segedge.card.card import ModelCard
from segedge.card.geometry import Fit, Size
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
Triple = tuple[float, float, float]


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
        f"{_INFO}resize_type": _resize_type(card),
        f"{_INFO}pad_value": str(card.pad_value),
    }


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
        at_start=kind == "fit_to_window",
    )


def _resize_type(card: ModelCard) -> str:
    if card.fit == "letterbox" and card.at_start:
        return "fit_to_window"
    return _RESIZE_TYPE_OF_FIT[card.fit]


def _said(text: str) -> dict[str, str]:
    """The beginning of what a key says, as a fact."""
    return {"found": text[:60].strip() or "nothing"}


def _ultralytics_names(text: str) -> tuple[str, ...]:
    """``{0: 'road', 1: 'car'}`` or ``['road', 'car']``, parsed as a literal."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise CardError(
            "the file's metadata key 'names' cannot be read",
            facts=_said(text),
        ) from error
    if isinstance(value, dict) and value.keys() == set(range(len(value))):
        value = [value[index] for index in range(len(value))]
    if not isinstance(value, (list, tuple)) or not value:
        raise CardError(
            "the file's metadata key 'names' is no list of names",
            facts=_said(text),
        )
    return tuple(str(name) for name in value)


def _triple(metadata: Mapping[str, str], field: str, default: float) -> Triple:
    """Three 0..255 numbers as 0..1, one number standing for all."""
    text = metadata.get(f"{_INFO}{field}", "").replace(",", " ").strip("[] ")
    try:
        values = [float(part) / 255.0 for part in text.split()] or [default / 255.0]
    except ValueError as error:
        raise CardError(
            f"the file's metadata key '{_INFO}{field}' holds no numbers",
            facts=_said(text),
        ) from error
    if len(values) == 1:
        values *= 3
    if len(values) != 3:
        raise CardError(f"the file's metadata key '{_INFO}{field}' has {len(values)} numbers")
    return values[0], values[1], values[2]


def _numbers(values: Any) -> str:
    return " ".join(f"{value:.9g}" for value in values)
