"""What `segedge optimize` is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from segedge.card.geometry import Size
from segedge.errors import UsageError, unknown_name_error
from segedge.measure.bench.results import Mode

Precision = Literal["fp32", "bf16", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
"""From the most exact to the least: one of them must be faster than all before it."""
Objective = Literal["frame", "network"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
MODES: tuple[Mode, ...] = ("network", "frame")
"""What is measured of each candidate."""
MAX_DROP_MIOU, MAX_DROP_AGREEMENT = 0.5, 1.0
"""Bounds where none is given, in points."""


@dataclass(frozen=True)
class TuneOptions:
    """What to try and how."""

    backends: tuple[str, ...] = ()
    """Names as `segedge doctor` lists them, with a variant or without; empty: all ready here."""
    precisions: tuple[Precision, ...] = PRECISIONS
    """What to try; the float model is measured in any case, to compare with."""
    objective: Objective = "frame"
    """What shall be fast: image to overlay, or the network alone."""
    max_drop: float | None = None
    """Points (of 100) that a recommended candidate may lose; None: 0.5 of mIoU, 1.0 of
    agreement where there are no labels."""
    rounds: int = 3
    """Turns of each candidate."""
    seconds: float = 2.0
    """Duration of each mode in each round."""
    limit: int | None = None
    """At most so many images, evenly spread; None: all labelled ones, 64 without labels."""
    frame_size: Size | None = None
    """Of the frame that is timed; None: twice the network's input."""
    video: Path | None = None
    """What the recommended one is tried on with the network on some frames; None: not tried."""

    def __post_init__(self) -> None:
        for word in self.precisions:
            if word not in PRECISIONS:
                raise unknown_name_error("precision", str(word), PRECISIONS)
        if not self.precisions:
            raise UsageError("no precision to try", fix="--precision fp32,fp16,int8")
        if self.objective not in OBJECTIVES:
            raise unknown_name_error("objective", str(self.objective), OBJECTIVES)
        for name, value in (("--rounds", self.rounds), ("--seconds", self.seconds)):
            if not 0 < value < 1e6:
                raise UsageError(f"{name} must be positive", facts={"found": f"{value:g}"})
        if self.max_drop is not None and not 0 <= self.max_drop <= 100:
            raise UsageError(
                "--max-drop is in points of 100, none of them negative",
                facts={"found": f"{self.max_drop:g}"},
                fix="--max-drop 0.5",
            )
        if self.limit is not None and self.limit < 1:
            raise UsageError("--limit must be positive", facts={"found": str(self.limit)})


def allowed_drop(asked: float | None, *, has_labels: bool) -> float:
    """The drop that is allowed, in points of mIoU, or of agreement where there are no labels."""
    default = MAX_DROP_MIOU if has_labels else MAX_DROP_AGREEMENT
    return default if asked is None else asked
