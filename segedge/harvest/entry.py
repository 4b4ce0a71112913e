"""Entry: one kept frame, as a line of the manifest."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from segedge.card.plain import parse_json


@dataclass
class Entry:
    """A frame that was kept, and why."""

    name: str
    """Stem of its files: ``images/NAME.jpg`` and ``labels/NAME.png``."""
    source: str
    """The source it is from."""
    index: int
    """Its position there."""
    pts_seconds: float | None
    """Its time there."""
    kept: str
    """When it was kept: UTC, ISO 8601."""
    model: str
    """The model whose labels these are."""
    height: int
    """Of the image."""
    width: int
    """Of the image."""
    dhash: str
    """The 64-bit difference hash, in hexadecimal."""
    score: float
    """The sum of the bits: frames of a high score go last."""
    reasons: list[str]
    """What made it a candidate, the strongest first."""
    values: dict[str, float]
    """Value of each reason, 0..1; of ``rare`` the share of the frames that have the class."""
    bits: dict[str, float]
    """How unusual each value is: n bits where one frame in 2^n has as much."""
    rare_class: str | None
    """The rarest class in it."""
    class_shares: dict[str, float]
    """Share of the classes in it, 0..1."""
    image_bytes: int
    """Size of the image file."""
    label_bytes: int
    """Size of the label file."""
    edited: bool = field(default=False, compare=False)
    """Whether somebody changed the label file since: such a frame is never dropped. Not stored."""

    @property
    def hash(self) -> int:
        """The difference hash."""
        return int(self.dhash, 16)

    def line(self) -> str:
        """One line of JSON."""
        fields = dataclasses.asdict(self)
        del fields["edited"]
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":")) + "\n"

    @classmethod
    def of_line(cls, line: str) -> Entry | None:
        """An entry again, or None where the line is not whole or says something else."""
        try:
            fields: Any = parse_json(line)
            entry = cls(**fields)
            int(entry.dhash, 16)
            float(entry.score)
        except (TypeError, ValueError):
            return None
        return entry
