"""Each field of a card has its range, and the error names field, value and range."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from segedge.card.card import ModelCard
from segedge.card.plain import parse_json
from segedge.card.ranges import CARD_RANGES, PARITY_RANGES, QUANTIZATION_RANGES, Range
from segedge.card.records import Parity, Quantization
from segedge.errors import CardError

CARD = ModelCard(("dark", "bright"), ((0, 0, 0), (255, 255, 255)), 48, 64)
PARITY = Parity(1, "images", 1.0, 0.0, 1e-5)
QUANTIZED = Quantization("mse", 8, 2, "", 3, (), 0.9, "miou", "simulated", 0.8, 0.79, "val")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("palette_rgb", ((0, 0, 0), (0, 10**9, 0)), ("palette_rgb is 1e+09", "0 to 255")),
        ("palette_rgb", ((0, 0, 0), (0, -1, 0)), ("palette_rgb is -1", "0 to 255")),
        ("pad_value", 256, ("pad_value is 256", "0 to 255")),
        ("ignore_index", 10**6, ("ignore_index is 1e+06", "-32768 to 65535")),
        ("mean", (0.0, math.nan, 0.0), ("mean is nan", "-10000 to 10000")),
        ("std", (1.0, 1e-30, 1.0), ("std is 1e-30", "1e-06 or more")),
        ("stride", 10**6, ("stride is 1e+06", "1 to 65536 pixels")),
        ("input_height", 10**9, ("input_height is 1e+09", "1 to 65536 pixels")),
        ("pillow_resample", 9, ("pillow_resample is 9", "0 to 5")),
        ("dynamic", ("depth",), ("dynamic is 'depth'", "batch, size")),
        ("head", "tail", ("head is 'tail'", "logits, labels")),
        ("input_layout", "chwn", ("input_layout is 'chwn'", "nchw, nhwc")),
        ("parity", dataclasses.replace(PARITY, agreement=1.5),
         ("parity.agreement is 1.5", "0 to 1")),
        ("quantization", dataclasses.replace(QUANTIZED, weight_bits=64),
         ("quantization.weight_bits is 64", "1 to 16")),
    ],
)  # fmt: skip
def test_what_no_network_can_mean(field: str, value: Any, words: tuple[str, str]) -> None:
    with pytest.raises(CardError) as caught:
        CARD.replace(**{field: value})
    assert f"the card's {words[0]}" in caught.value.headline
    assert words[1] in caught.value.facts["expected"]


def test_together() -> None:
    with pytest.raises(CardError, match="input_height x input_width is 65536x65536"):
        CARD.replace(input_height=65536, input_width=65536)
    many = 2**16
    with pytest.raises(CardError, match="number of classes is 65536"):
        CARD.replace(classes=("x",) * many, palette_rgb=((0, 0, 0),) * many)


@pytest.mark.parametrize(
    ("kind", "ranges", "whole"),
    [
        (ModelCard, CARD_RANGES, CARD),
        (Parity, PARITY_RANGES, PARITY),
        (Quantization, QUANTIZATION_RANGES, QUANTIZED),
    ],
)
def test_no_number_is_forgotten(kind: type, ranges: dict[str, Range], whole: Any) -> None:
    numbers = {
        field.name
        for field in dataclasses.fields(kind)
        if any(word in str(field.type) for word in ("int", "float", "Rgb"))
        and "str" not in field.type
    }
    assert numbers == set(ranges)


def test_deep_nesting_and_long_numbers_are_no_json() -> None:
    for text in ("[" * 100_000, "1" * 10_000, "{", b"\xff"):
        with pytest.raises(ValueError, match=r"."):
            parse_json(text)
    with pytest.raises(CardError, match="is not JSON"):
        ModelCard.from_json("[" * 100_000)


@pytest.mark.parametrize("sign", ["", "-"])
def test_numbers_that_no_float_can_hold_are_no_json(sign: str) -> None:
    """A field for a float would raise OverflowError of them, wherever it is read."""
    assert parse_json(f"[{sign}1{'0' * 290}]") == [int(f"{sign}1{'0' * 290}")]
    for zeros in (400, 5000):
        with pytest.raises(ValueError, match=f"a number of {zeros + 1 + len(sign)} digits"):
            parse_json(f'{{"seconds": {sign}1{"0" * zeros}}}')
