"""What a Hugging Face folder says of its classes and of how its network is given images.

The processor's settings come from whoever loads it, with the defaults of its class filled in (see
`segedge.convert.processor`, which also checks on pixels that they were understood).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segedge.card.card import ColorOrder, ResizeRule
from segedge.card.geometry import Fit, Scaling, Size
from segedge.card.plain import parse_json
from segedge.errors import CardError

RULE_OF_RESAMPLE: dict[int, ResizeRule] = {
    0: "nearest",
    1: "pillow-lanczos",
    2: "pillow-bilinear",
    3: "pillow-bicubic",
    4: "pillow-box",
    5: "pillow-hamming",
}
"""Pillow's resampling codes."""
Triple = tuple[float, float, float]
_DOES_NOT: dict[str, tuple[str, ...]] = {
    "SegformerImageProcessor": ("do_center_crop", "do_pad"),
    "Mask2FormerImageProcessor": ("do_center_crop",),
    "MaskFormerImageProcessor": ("do_center_crop",),
    "OneFormerImageProcessor": ("do_center_crop", "pad_size"),
    "EomtImageProcessor": ("do_center_crop",),
    "BeitImageProcessor": ("do_pad",),
    "MobileViTImageProcessor": ("do_normalize", "do_pad"),
    "MobileNetV2ImageProcessor": ("do_pad",),
}
"""Settings that a class of processors has and does not heed."""
_MASKS = ("Mask2Former", "MaskFormer", "OneFormer")
"""Processors that resize to multiples of their divisor, where others pad to such."""
_UNKNOWN: dict[str, str] = {
    "do_thumbnail": "shrinks images in steps",
    "do_align_long_axis": "turns images that stand",
    "do_split_image": "cuts images into windows",
    "do_crop_margin": "cuts off margins",
    "do_resize_and_pad": "is no step that is known here",
}
"""Steps that other processors take, and what they do."""


@dataclass(frozen=True)
class HuggingFaceFolder:
    """What a Hugging Face folder says, before its network has been looked at."""

    classes: tuple[str, ...]
    """Class names in label order."""
    input_size: Size | None
    """Size of the network's input, where it does not depend on the frame's."""
    mean: Triple
    """In units of value/255, as on a `ModelCard`."""
    std: Triple
    """In units of value/255."""
    color: ColorOrder
    """Channel order that the network wants."""
    resize: ResizeRule
    """How its processor resamples."""
    fit: Fit
    """stretch; crop where the processor cuts the centre, letterbox where it pads."""
    scaling: Scaling | None
    """Size that frames are resized to before they are cut or padded."""
    at_start: bool
    """Whether it pads right and below only."""
    pad_value: int
    """Value of the border, before normalisation."""
    pad_mean: bool
    """Whether the border is 0 after normalisation."""
    follows_frame: str
    """Why the network's size depends on the frame's; empty where it does not."""
    windows: bool = False
    """Whether its processor cuts the resized frame into windows along the longer side."""


def read_huggingface(
    folder: str | Path, settings: Mapping[str, Any], *, processor: str = ""
) -> HuggingFaceFolder:
    """A folder's classes, and what the settings of a processor's class do to pixels.

    Raises:
        CardError: A file is missing or malformed, or a setting does what no card can say.
    """
    classes = class_names_of(Path(folder))
    given = {**settings, **dict.fromkeys(_DOES_NOT.get(processor, ()), False)}
    if processor.startswith(_MASKS):
        given |= {"rounds_up": given.pop("size_divisor", 0), "do_pad": bool(given.get("pad_size"))}
    windows = processor.startswith("Eomt") and _eomt(given)
    for name in _UNKNOWN:
        if given.get(name):
            raise CardError(
                f"{processor or 'the processor'} has {name}, which {_UNKNOWN[name]}",
                facts={"found": f"{name}: {given[name]}"},
                fix="export the module from a factory, with the preprocessing in it",
            )
    try:
        mean, std = _normalisation(given)
        resample = int(given["resample"] if given.get("resample") is not None else 2)
        return HuggingFaceFolder(
            classes=classes,
            mean=mean,
            std=std,
            color="bgr" if given.get("do_flip_channel_order") else "rgb",
            resize=RULE_OF_RESAMPLE[resample],
            windows=windows,
            **_placing(given),
        )
    except (AttributeError, IndexError, TypeError, ValueError, ArithmeticError) as error:
        raise _unclear(f"{error}") from error
    except KeyError as error:
        raise _unclear(f"resample {error}, known are 0 to 5") from error


def _eomt(given: dict[str, Any]) -> bool:
    """EoMT's two ways to its square, as other processors' settings; whether it is by windows.

    Frames are resized by their shorter side, then cut into squares, of which a card says the one in
    the middle; or padded below and to the right, before normalisation, to the size itself.
    """
    size = given.get("size")
    edges = size if isinstance(size, Mapping) else {}
    side = edges.get("shortest_edge")
    if side and given.get("do_split_image") and not edges.get("longest_edge"):
        given |= {"do_split_image": False, "do_pad": False, "do_center_crop": True}
        given["crop_size"] = {"height": side, "width": side}
        return True
    if side and given.get("do_pad"):
        given["pad_size"] = {"height": side, "width": edges.get("longest_edge") or side}
        given["pads_levels"] = True
    return False


def read_settings(folder: Path) -> dict[str, Any]:
    """The processor's settings as the folder's file has them, without any defaults.

    Raises:
        CardError: There is no such file, or it is no JSON object.
    """
    for name in ("processor_config.json", "preprocessor_config.json"):
        if (folder / name).is_file():
            found = read_json(folder / name)
            inner = found.get("image_processor", found if name[:3] == "pre" else None)
            if isinstance(inner, dict):
                return inner
    raise CardError(
        f"{folder.name} has no preprocessor_config.json: how images are prepared is unknown",
        fix="copy it from where the weights come from, or write it: "
        "processor.save_pretrained(folder)",
    )


def read_json(file: Path) -> dict[str, Any]:
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


def _unclear(found: str) -> CardError:
    return CardError(
        "preprocessor_config.json does not say how images are prepared", facts={"found": found}
    )


def class_names_of(folder: Path) -> tuple[str, ...]:
    """Class names of ``config.json``, in label order; CardError where it names none."""
    id2label = read_json(folder / "config.json").get("id2label")
    if not isinstance(id2label, dict) or not id2label:
        raise CardError(
            f"{folder.name}/config.json names no classes", facts={"expected": "id2label"}
        )
    if not all(key.isdecimal() for key in id2label):
        raise CardError(
            f"{folder.name}/config.json has classes without a number",
            facts={"expected": '"id2label": {"0": "road", ...}', "found": str(id2label)[:60]},
        )
    return tuple(str(name) for _, name in sorted(id2label.items(), key=lambda kv: int(kv[0])))


def _normalisation(settings: Mapping[str, Any]) -> tuple[Triple, Triple]:
    """``(value * factor - mean) / std`` rewritten for values divided by 255.

    With ``offset`` (ViViT's habit) 1 is taken off what was multiplied.
    """
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if settings.get("do_normalize", True):
        mean = _triple(settings.get("image_mean", (0.485, 0.456, 0.406)))
        std = _triple(settings.get("image_std", (0.229, 0.224, 0.225)))
    factor = settings.get("rescale_factor") or 1 / 255
    unit = 255.0 * float(factor) if settings.get("do_rescale", True) else 255.0
    if settings.get("do_rescale", True) and settings.get("offset"):
        mean = _triple([value + 1.0 for value in mean])
    # 255 * (1/255) is not 1 in floating point; the usual case should stay the numbers people know.
    unit = 1.0 if abs(unit - 1.0) < 1e-6 else unit
    return _triple([value / unit for value in mean]), _triple([value / unit for value in std])


def _triple(values: Any) -> Triple:
    values = [values] * 3 if isinstance(values, (int, float)) else values
    first, second, third = (float(value) for value in values)
    if not all(map(math.isfinite, (first, second, third))):
        raise ValueError(f"mean, std and rescale_factor give {first:g} {second:g} {third:g}")
    return first, second, third


def _placing(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What becomes of a frame's size: resized, then cut, then padded."""
    placing: dict[str, Any] = {
        "fit": "stretch", "scaling": None, "at_start": False, "pad_value": 0, "pad_mean": False,
        "input_size": None, "follows_frame": "",
    }  # fmt: skip
    scaling, why = _scaling(settings)
    divisor = settings.get("size_divisor")
    if settings.get("do_center_crop"):
        crop = _size(settings.get("crop_size"))
        if crop is None or (why and settings.get("do_resize", True)):
            raise ValueError(f"a centre crop after {why or 'no size'}")
        return {**placing, "fit": "crop", "scaling": scaling, "input_size": crop}
    if settings.get("do_pad") and (settings.get("pad_size") or divisor):
        padded = _size(settings.get("pad_size"))
        by_edges = padded is not None and scaling != Scaling()
        return {
            **placing, "fit": "letterbox", "scaling": scaling if by_edges or not why else None,
            "pad_mean": not settings.get("pads_levels"),
            "at_start": padded is not None, "input_size": padded,
            "follows_frame": "" if padded else f"padded to multiples of {divisor}",
        }  # fmt: skip
    exact = Size(scaling.height, scaling.width) if scaling.height and not why else None
    return {**placing, "input_size": exact, "follows_frame": why if exact is None else ""}


def _scaling(settings: Mapping[str, Any]) -> tuple[Scaling, str]:
    """How frames are resized, and in words where that depends on more than a `Scaling` says."""
    if not settings.get("do_resize", True):
        return Scaling(), "images stay as large as they are (do_resize: false)"
    size = settings.get("size")
    if isinstance(size, int):
        square = bool(settings.get("default_to_square", True))
        size = {"height": size, "width": size} if square else {"shortest_edge": size}
    if isinstance(size, (list, tuple)):
        size = {"height": size[0], "width": size[1]}
    if not isinstance(size, Mapping):
        raise TypeError(f"size {size}")
    known = {name: int(value) for name, value in size.items() if value}
    multiple = int(settings.get("ensure_multiple_of") or 1)
    if "height" in known and "width" in known:
        height, width = known["height"], known["width"]
        if settings.get("keep_aspect_ratio"):
            return Scaling(), f"the aspect ratio is kept, in multiples of {multiple}"
        up = int(settings.get("rounds_up") or 1)
        return Scaling(*(_multiple(length, multiple, up) for length in (height, width))), ""
    shortest, longest = known.get("shortest_edge", 0), known.get("longest_edge", 0)
    if shortest or longest:
        scaling = Scaling(shortest=shortest, longest=longest)
        return scaling, "" if settings.get("do_center_crop") else f"{scaling}"
    if "max_height" in known and "max_width" in known:
        return Scaling(), f"within {known['max_height']}x{known['max_width']}"
    raise ValueError(f"size {dict(size)}")


def _multiple(length: int, nearest: int, up: int) -> int:
    return -(-nearest * round(length / nearest) // up) * up


def _size(value: Any) -> Size | None:
    if isinstance(value, int):
        return Size(value, value)
    if isinstance(value, Mapping) and value.get("height") and value.get("width"):
        return Size(int(value["height"]), int(value["width"]))
    return None
