"""What each field of a card may be: what no network can mean is refused where the card is read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from segedge.errors import CardError


class Range(NamedTuple):
    """Numbers from ``low`` to ``high``, both included."""

    low: float
    high: float
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{self.unit}"


_LABELS, _COUNT, _SHARE = Range(-(2**15), 2**16 - 1), Range(0, 2**53), Range(0, 1)
CARD_RANGES: dict[str, Range] = {
    "palette_rgb": Range(0, 255),
    "input_height": Range(1, 2**16, " pixels"),
    "input_width": Range(1, 2**16, " pixels"),
    "ignore_index": _LABELS,
    "mean": Range(-1e4, 1e4),
    "std": Range(-1e4, 1e4),
    "pad_value": Range(0, 255),
    "stride": Range(1, 2**16, " pixels"),
    "mask_scale": Range(1, 16),
    "pillow_resample": Range(0, 5),
}
PARITY_RANGES: dict[str, Range] = {
    "images": _COUNT,
    "agreement": _SHARE,
    "ambiguous": _SHARE,
    "max_logit_error": Range(0, math.inf),
    "logit_range": Range(0, math.inf),
}
WAY_RANGES: dict[str, Range] = {
    "whole": _SHARE,
    "preprocessing": _SHARE,
    "after": _SHARE,
    "levels": Range(0, math.inf),
}
QUANTIZATION_RANGES: dict[str, Range] = {
    "weight_bits": Range(1, 16),
    "images": _COUNT,
    "layers": _COUNT,
    "mac_share": _SHARE,
    "float_score": _SHARE,
    "score": _SHARE,
    "max_drop": Range(0, 100, " points"),
}
ADAPTATION_RANGES: dict[str, Range] = {
    "images": _COUNT,
    "layers": _COUNT,
    "share": _SHARE,
    "information": Range(0, 64, " nats"),
    "confidence": _SHARE,
    "miou": _SHARE,
}
_MOST_CLASSES = 2**16 - 1
"""More do not fit the 16 bits of a label."""
_MOST_PIXELS = 2**28
_LEAST_STD = 1e-6
"""What is divided by less does not fit float32 afterwards."""


def check_ranges(value: Any, ranges: Mapping[str, Range], *, part: str = "") -> None:
    """Raise CardError on the first number of a dataclass that is out of its range."""
    for name, allowed in ranges.items():
        for number in _numbers(getattr(value, name)):
            if not allowed.low <= number <= allowed.high:  # NaN is in no range
                raise _out_of_range(f"{part}{name}", f"{number:g}", str(allowed))


def check_sizes(height: int, width: int, classes: int, std: tuple[float, ...]) -> None:
    """Raise CardError where numbers that are each in range cannot be meant together."""
    if height * width > _MOST_PIXELS:
        allowed = f"at most {_MOST_PIXELS} pixels"
        raise _out_of_range("input_height x input_width", f"{height}x{width}", allowed)
    if classes > _MOST_CLASSES:
        raise _out_of_range("number of classes", str(classes), f"at most {_MOST_CLASSES}")
    for number in std:
        if abs(number) < _LEAST_STD:
            raise _out_of_range("std", f"{number:g}", f"{_LEAST_STD:g} or more, or its negative")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise CardError where a field is none of a few words."""
    if value not in choices:
        raise CardError(f"the card's {name} is {value!r}", facts={"expected": ", ".join(choices)})


def _out_of_range(name: str, found: str, expected: str) -> CardError:
    return CardError(f"the card's {name} is {found}", facts={"expected": expected})


def _numbers(value: Any) -> Iterator[float]:
    """A number, those of nested tuples, or none."""
    if isinstance(value, tuple):
        for item in value:
            yield from _numbers(item)
    elif value is not None:
        yield value
