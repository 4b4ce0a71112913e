"""The one schema of ``benchmarks/results``: figures with their spread and what they include."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segedge.card.plain import PlainError, from_plain, to_plain
from segedge.machine.environment import Environment
from segedge.measure.bench.durations import Statistics
from segedge.measure.bench.results import write_text

RESULTS = Path(__file__).parent / "results"
SCHEMA = 2
"""Schema 1 was a free form of medians without their spread."""
KIND = "segedge benchmarks"
WITHIN = (
    "low and high: 95 % interval of the median by order statistics, widened to the median of every "
    "round; the extremes below 6 values; null for one value"
)
_DIGITS = 5
"""Significant digits in a file: measuring gives no more."""


class SchemaError(Exception):
    """A results file that cannot be read; the message says why and what to do."""


@dataclass(frozen=True)
class Figure:
    """One quantity of one variant: its median, and how sure that is."""

    variant: str
    quantity: str
    """A key of the document's ``includes``."""
    unit: str
    count: int
    """Values behind it."""
    median: float
    low: float | None
    """See `WITHIN`; None for a single value, whose spread is not known."""
    high: float | None
    minimum: float
    maximum: float
    p95: float
    rounds: tuple[float, ...]
    """The median of each round: how the machine drifted."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """What it was measured with, where that varies within the document."""

    def __post_init__(self) -> None:
        if self.count < 1 or not self.rounds:
            raise SchemaError(f"{self.variant}, {self.quantity}: a figure of no values")
        if (self.low is None) != (self.high is None):
            raise SchemaError(f"{self.variant}, {self.quantity}: half an interval")
        if self.low is not None and not self.low <= self.median <= (self.high or 0.0):
            raise SchemaError(f"{self.variant}, {self.quantity}: the median is outside its span")

    @classmethod
    def of(
        cls,
        variant: str,
        quantity: str,
        rounds: Sequence[Sequence[float]],
        *,
        unit: str = "ms",
        parameters: Mapping[str, Any] | None = None,
    ) -> Figure:
        """A figure of rounds of values; no round is empty."""
        found = Statistics.of(rounds)
        low, high = found.span_ms if found.count > 1 else (None, None)
        return cls(
            variant=variant,
            quantity=quantity,
            unit=unit,
            count=found.count,
            median=found.p50_ms,
            low=low,
            high=high,
            minimum=found.min_ms,
            maximum=found.max_ms,
            p95=found.p95_ms,
            rounds=found.rounds_ms,
            parameters=dict(parameters or {}),
        )

    @property
    def span(self) -> str:
        """``8.12 .. 8.93``, or a dash."""
        if self.low is None or self.high is None:
            return "-"
        return f"{rounded(self.low, 3):g} .. {rounded(self.high, 3):g}"


@dataclass(frozen=True)
class Document:
    """Everything of one run of one benchmark."""

    benchmark: str
    """Name of the results file."""
    includes: dict[str, str]
    """Quantity to what it includes and leaves out."""
    figures: tuple[Figure, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    """What everything was measured with."""
    details: dict[str, Any] = field(default_factory=dict)
    """What is no figure: agreement of outputs, fitted lines, verdicts."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Variant to the reason why it has no figures."""
    environment: Environment = field(default_factory=Environment.capture)

    def __post_init__(self) -> None:
        unknown = {figure.quantity for figure in self.figures} - set(self.includes)
        if unknown:
            raise SchemaError(f"nothing says what these include: {', '.join(sorted(unknown))}")

    def to_json(self) -> str:
        """The text that `read_document` reads."""
        data = _shortened(to_plain(self))
        head = {"schema": SCHEMA, "kind": KIND, "within": WITHIN}
        figures = ",\n  ".join(json.dumps(figure) for figure in data.pop("figures"))
        rest = json.dumps({**head, **data}, indent=1)
        return f'{rest.removesuffix("}").rstrip()},\n "figures": [\n  {figures}\n ]\n}}\n'


def write_document(document: Document, *, suffix: str = "") -> Path:
    """Write ``results/NAME.json``."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{document.benchmark}{suffix}.json"
    write_text(path, document.to_json())
    return path


def read_document(path: Path) -> Document:
    """Read what `write_document` wrote.

    Raises:
        SchemaError: It is no results file, or of another schema.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SchemaError(f"{path.name} is no JSON: {error}") from error
    if not isinstance(data, dict) or data.get("schema") != SCHEMA or data.get("kind") != KIND:
        found = data.get("schema") if isinstance(data, dict) else None
        wanted = f"expected {SCHEMA} of {KIND}"
        raise SchemaError(f"{path.name} has schema {found}, {wanted}: measure again with --save")
    try:
        return from_plain(Document, data)
    except PlainError as error:
        raise SchemaError(f"{path.name} is damaged: {error}") from error


def rounded(value: float, digits: int = _DIGITS) -> float:
    """To significant digits."""
    return float(f"{value:.{digits}g}")


def _shortened(value: Any) -> Any:
    if isinstance(value, float):
        return rounded(value)
    if isinstance(value, dict):
        return {key: _shortened(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_shortened(entry) for entry in value]
    return value
