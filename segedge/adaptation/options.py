"""What can be asked of an adaptation, and what comes back from one: plain data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segedge.card.plain import to_plain
from segedge.card.records import Adaptation
from segedge.errors import UsageError

SHARES = (0.25, 0.5, 0.75, 0.9, 1.0)
"""That are tried: most looks want all of the way or half of it."""
LEAST_GAIN = 0.01
"""Nats of information below which an adaptation is refused: noise of the frames held back."""
LEAST_SURER = 0.005
"""Of the mean top probability, 0..1: an adaptation that makes it rise by less is refused."""


@dataclass(frozen=True)
class AdaptOptions:
    """How a network is adapted."""

    frames: int = 64
    """Images at most, evenly spread over the time; every fourth is held back to judge on."""
    seconds: float = 60.0
    """How long a camera or stream is watched."""
    share: float | None = None
    """How far to move, 0..1; None: what looks best on the frames held back."""
    source: Path | str | None = None
    """Images like those of training, for files that do not say what their layers expect."""
    limit: int | None = None
    """At most so many labelled images, evenly spread."""

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise UsageError(f"--frames must be at least 1, found {self.frames}")
        if not 0 < self.seconds < float("inf"):
            raise UsageError(f"--seconds must be above 0, found {self.seconds:g}")
        if self.share is not None and not 0 < self.share <= 1:
            raise UsageError(f"--share is above 0 and at most 1, found {self.share:g}")


@dataclass(frozen=True)
class Trial:
    """A share of the way that was tried."""

    share: float
    """0: the network as it was."""
    information: float
    """What its answers tell of the classes on frames held back, in nats."""
    confidence: float
    """Mean probability of the label on them, 0..1."""
    class_shares: tuple[float, ...]
    """Share of the logit grid with each class."""
    miou: float | None = None
    """Mean IoU on labelled images, 0..1, where they decide."""


@dataclass(frozen=True)
class AdaptReport:
    """What an adaptation found and did."""

    out: Path | None
    """The file that was written; None: it did not help, and nothing was."""
    frames: int
    """Images that were used, those held back included."""
    different: int
    """How many of them show something else than those before."""
    constant: int
    """Images of one colour, left out."""
    images_sha256: str
    """Over their pixels."""
    statistics: str
    """Where what the layers expect is from."""
    layers: int
    """Layers that are moved."""
    left: int
    """Layers that are not: their values are pooled to a few positions."""
    trials: tuple[Trial, ...]
    """The network as it was, then each share that was tried."""
    chosen: Trial
    """What was taken; the first of ``trials`` where the file stays as it was."""
    record: Adaptation | None = None
    """What the card of the new file says."""
    agreement: float | None = None
    """Share of the labels that the written file gives as the graph with explicit scales does."""
    warnings: tuple[str, ...] = ()
    """What a person should know, in sentences."""

    @property
    def before(self) -> Trial:
        """The network as it was."""
        return self.trials[0]

    @property
    def helped(self) -> bool:
        """Whether a file was written."""
        return self.out is not None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain: dict[str, Any] = to_plain(self)
        return plain
