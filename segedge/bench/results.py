"""The results of `segedge bench`: frozen values, and their JSON."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from segedge.bench.environment import Environment
from segedge.bench.measure import Statistics
from segedge.errors import UsageError

SCHEMA = 2
"""Schema 1 is that of ``benchmarks/results``: medians alone, without their spread."""

Mode = Literal["network", "frame"]
MODES: tuple[Mode, ...] = ("network", "frame")
INCLUDES: dict[str, str] = {
    "network": "the network alone, batch 1, tensor to logits in memory that is already there",
    "frame": "uint8 BGR image in memory to uint8 BGR overlay, one at a time; no decode or encode",
    "within": "95 % interval of the median by order statistics, widened to every round's median",
    "open": "opening the model, the import of the library included",
    "first": "the first frame after opening: allocation, kernels from their cache",
    "peak": "highest resident memory of the worker process, with interpreter and libraries",
}
"""What each figure includes."""


@dataclass(frozen=True)
class Subject:
    """What was measured, and how."""

    model: str
    """File name, without its folder."""
    sha256: str
    card: dict[str, Any]
    network_size: str
    """Height x width of the network's input."""
    frame_size: str
    rounds: int
    seconds: float
    """Target duration of each mode in each round."""


@dataclass(frozen=True)
class Row:
    """One backend in one mode."""

    backend: str
    mode: Mode
    description: str
    """Library, version, device and precision."""
    times: Statistics
    stages_ms: dict[str, float]
    """Stage to its median; of the mode ``frame`` only."""
    is_steady: bool
    """Whether the warm-up became steady in every round."""
    open_ms: float
    first_frame_ms: float
    peak_memory_mb: float


@dataclass(frozen=True)
class Results:
    """Everything of one `segedge bench`."""

    subject: Subject
    environment: Environment
    rows: tuple[Row, ...]
    skipped: dict[str, str]
    """Backend to the reason why it was not measured."""

    def to_json(self) -> str:
        """The document that `read_results` reads."""
        head = {"schema": SCHEMA, "kind": "segedge bench", "includes": INCLUDES}
        return json.dumps({**head, **dataclasses.asdict(self)}, indent=2) + "\n"


def write_results(results: Results, path: Path) -> None:
    """Write the JSON document.

    Raises:
        UsageError: The file cannot be written.
    """
    write_text(path, results.to_json())


def write_text(path: Path, text: str) -> None:
    """Write a text file.

    Raises:
        UsageError: It cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written",
            facts={"found": error.strerror or str(error)},
            fix="name a file in a folder that exists and may be written",
        ) from error


def read_results(path: Path) -> Results:
    """Read what `write_results` wrote.

    Raises:
        UsageError: The file is unreadable, no results file, or of another schema.
    """
    again = "measure again: segedge bench MODEL --json FILE"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"{path} cannot be read", facts={"found": reason}, fix=again) from error
    except ValueError as error:
        facts = {"found": str(error)}
        raise UsageError(f"{path} is no results file", facts=facts, fix=again) from error
    schema = data.get("schema") if isinstance(data, dict) else None
    if not isinstance(schema, int):
        facts = {"expected": f"JSON with schema {SCHEMA}", "found": "JSON without a schema number"}
        raise UsageError(f"{path} is no results file", facts=facts, fix=again)
    if schema != SCHEMA:
        _refuse_schema(path, schema, again)
    try:
        return _from_dict(data)
    except (KeyError, TypeError, AttributeError) as error:
        facts = {"found": f"{type(error).__name__}: {error}"}
        raise UsageError(f"{path} is damaged", facts=facts, fix=again) from error


def _refuse_schema(path: Path, schema: int, again: str) -> None:
    """Older files lack the spread of their figures, which nothing can add afterwards."""
    why = "medians without their spread" if schema < SCHEMA else "of a newer segedge"
    raise UsageError(
        f"{path} has another schema",
        facts={"expected": f"schema {SCHEMA}", "found": f"schema {schema}: {why}"},
        fix=again if schema < SCHEMA else "pip install -U segedge",
    )


def _from_dict(data: dict[str, Any]) -> Results:
    rows = []
    for row in data["rows"]:
        times = dict(row["times"])
        if times["interval_ms"] is not None:
            low, high = times["interval_ms"]
            times["interval_ms"] = (low, high)
        times["rounds_ms"] = tuple(times["rounds_ms"])
        rows.append(Row(**{**row, "times": Statistics(**times)}))
    return Results(
        subject=Subject(**data["subject"]),
        environment=Environment(**data["environment"]),
        rows=tuple(rows),
        skipped=dict(data["skipped"]),
    )
