"""What is asked of every reader, and how many spoilt files it is given."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

from segedge.card.card import ModelCard
from segedge.card.records import Parity, Quantization
from segedge.errors import SegedgeError

EXAMPLES = int(os.environ.get("SEGEDGE_FUZZ", "0"))
THOROUGH = settings(
    max_examples=EXAMPLES or 60,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
FEW = settings(THOROUGH, max_examples=EXAMPLES or 12)
"""Of what takes tens of milliseconds."""
PARITY = Parity(3, "images", 1.0, 0.0, 1e-5, ("48x64",))
QUANTIZED = Quantization(
    "mse", 8, 2, "ab", 3, (), 0.9, "miou", "onnxruntime", 0.8, 0.79, "camvid/val", 1.0
)
CARD = ModelCard(
    ("dark", "bright"), ((0, 0, 0), (255, 255, 255)), 48, 64, stride=8,
    mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), parity=PARITY, quantization=QUANTIZED,
)  # fmt: skip


def survives(read: Callable[[Any], object], value: Any) -> None:
    """The rule: a result, which the reader has looked at, or one of our errors, in words."""
    try:
        read(value)
    except SegedgeError as error:
        in_words(error)


def survives_spoilt(
    read: Callable[[Any], object], spoilt: SearchStrategy[bytes], how: settings = THOROUGH
) -> None:
    @how
    @given(spoilt)
    def spoil(data: bytes) -> None:
        survives(read, data)

    spoil()


def in_words(error: SegedgeError) -> None:
    """A line that says something, and rows with a text each."""
    assert error.headline.strip()
    assert "\n" not in error.headline
    for label, text in error.lines():
        assert label.strip(), error
        assert text.strip(), error


def reads_again(read: Callable[[str], Any], told: str, write: Callable[[Any], str]) -> Any:
    """What was read, which is the same once it is written and read again."""
    found = read(told)
    assert write(read(write(found))) == write(found)
    return found


def read_by(path: Path, read: Callable[[Path], Any]) -> Callable[[bytes], Any]:
    """Of what reads a file: the same, of its contents."""

    def read_data(data: bytes) -> Any:
        path.write_bytes(data)
        return read(path)

    return read_data


def card_of_plain(values: dict[str, Any]) -> None:
    """A card that is made of them says all of it again."""
    card = ModelCard.from_plain(values)
    assert ModelCard.from_json(card.to_json()) == card
