"""The results of `segedge bench`: frozen values, and their JSON."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from segedge.card.plain import PlainError, from_plain, parse_json, to_plain
from segedge.errors import UsageError
from segedge.machine.environment import Environment
from segedge.machine.files import refused, replace_file
from segedge.measure.bench.durations import Statistics
from segedge.measure.bench.watch import Observed

SCHEMA = 3
"""Schema 1 is that of ``benchmarks/results``: medians alone, without their spread. Schema 2 has one
size and one batch, no rates, and does not know what the machine did meanwhile."""

Mode = Literal["network", "frame", "rate", "video", "motion"]
MODES: tuple[Mode, ...] = ("network", "frame", "rate", "video", "motion")
INCLUDES: dict[str, str] = {
    "network": "the network alone, tensor to its output in memory that is already there; a batch "
    "counts as one",
    "frame": "uint8 BGR image in memory to uint8 BGR overlay, one at a time; no decode or encode",
    "rate": "the same through the pipeline with its threads, as fast as it goes: the time from one "
    "frame done to the next",
    "video": "a video decoded, overlaid and encoded to H.264 through the pipeline: the time from "
    "one frame written to the next",
    "motion": "as rate, of a picture that moves, the network on some frames and its logits carried "
    "to the others: a frame's share of the time from one key frame done to the next",
    "within": "95 % interval of the median by order statistics, widened to every round's median",
    "import": "Python's imports: segedge, NumPy, OpenCV, Numba, the inference library",
    "open": "opening the model: reading, optimising, compiling; without imports and building",
    "build": "building the engine, once: it is kept in the cache",
    "first": "the first frame after opening: allocation, kernels from their cache",
    "peak": "highest resident memory of the worker process, with interpreter and libraries",
    "GPU MB": "memory in use on the whole GPU at the end, all programs",
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
    """Height x width of the network's input; the first where there are several."""
    frame_size: str
    """The first where there are several."""
    rounds: int
    seconds: float
    """Target duration of each mode in each round."""


@dataclass(frozen=True)
class Key:
    """What makes two rows comparable."""

    backend: str
    mode: Mode
    batch: int
    network_size: str
    frame_size: str
    """Empty in the mode ``network``, which sees no frame."""
    every: str = ""
    """Of the mode ``motion``: the network saw every so many frames, or ``auto``."""

    @property
    def what(self) -> str:
        """The mode in words: ``motion, every 4``."""
        return f"{self.mode}, every {self.every}" if self.every else self.mode

    @property
    def sizes(self) -> str:
        """Network, frame and batch in words."""
        frame = f", frame {self.frame_size}" if self.frame_size else ""
        batch = f", batch {self.batch}" if self.batch > 1 else ""
        return f"network {self.network_size}{frame}{batch}"


@dataclass(frozen=True)
class Row:
    """One backend in one mode, with one batch and one size."""

    backend: str
    mode: Mode
    description: str
    """Library, version, device and precision."""
    times: Statistics
    stages_ms: dict[str, float]
    """Stage to its median; empty in the mode ``network``. They overlap in a pipeline."""
    is_steady: bool
    """Whether the warm-up became steady in every round."""
    open_ms: float
    """See `INCLUDES`; in results of schema 2 with imports and building."""
    first_frame_ms: float
    peak_memory_mb: float
    batch: int = 1
    network_size: str = ""
    frame_size: str = ""
    import_ms: float | None = None
    build_ms: float | None = None
    """None where no engine is built."""
    device_memory_mb: float | None = None
    """None without a GPU."""
    observed: Observed | None = None
    """What the machine did meanwhile; None in results of schema 2."""
    every: str = ""
    """See `Key`."""

    @property
    def key(self) -> Key:
        """What it may be compared by."""
        frame = "" if self.mode == "network" else self.frame_size
        return Key(self.backend, self.mode, self.batch, self.network_size, frame, self.every)

    @property
    def images_per_second(self) -> float:
        """Throughput: each image of a batch counts."""
        return self.batch * self.times.per_second


@dataclass(frozen=True)
class Results:
    """Everything of one `segedge bench`."""

    subject: Subject
    environment: Environment
    rows: tuple[Row, ...]
    skipped: dict[str, str]
    """Backend, with mode, batch or size where it is only that, to why it was not measured."""
    checked: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Backend to what came of the file's proof on it, as `Checked.to_dict` has it."""

    def to_json(self) -> str:
        """The document that `read_results` reads."""
        head = {"schema": SCHEMA, "kind": "segedge bench", "includes": INCLUDES}
        text = json.dumps({**head, **to_plain(self)}, indent=2)
        # Lists of numbers in one line: a hundred quantiles a row would hide everything else.
        return re.sub(r"\[[-\d.,\se+]*\]", lambda m: re.sub(r"\s+", " ", m[0]), text) + "\n"


def write_results(results: Results, path: Path) -> None:
    """Write the JSON document."""
    write_text(path, results.to_json())


def write_text(path: Path, text: str) -> None:
    """Write a text file."""
    fix = "name a file in a folder that exists and may be written"
    with refused(f"{path} cannot be written", UsageError, fix=fix):
        replace_file(path, text.encode())


def read_results(path: Path) -> Results:
    """Read what `write_results` wrote."""
    again = "measure again: segedge bench MODEL --json FILE"
    try:
        with refused(f"{path} cannot be read", UsageError, fix=again):
            data = parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        facts = {"found": str(error)}
        raise UsageError(f"{path} is no results file", facts=facts, fix=again) from error
    schema = data.get("schema") if isinstance(data, dict) else None
    if not isinstance(schema, int):
        facts = {"expected": f"JSON with schema {SCHEMA}", "found": "JSON without a schema number"}
        raise UsageError(f"{path} is no results file", facts=facts, fix=again)
    if schema not in (SCHEMA, _MIGRATED):
        _refuse_schema(path, schema, again)
    try:
        return from_plain(Results, _migrated(data) if schema == _MIGRATED else data)
    except (PlainError, KeyError, TypeError) as error:
        facts = {"found": f"{type(error).__name__}: {error}"}
        raise UsageError(f"{path} is damaged", facts=facts, fix=again) from error


def _refuse_schema(path: Path, schema: int, again: str) -> None:
    """The first schema lacks the spread of its figures, which nothing can add afterwards."""
    why = "medians without their spread" if schema < SCHEMA else "of a newer segedge"
    raise UsageError(
        f"{path} has another schema",
        facts={"expected": f"schema {_MIGRATED} or {SCHEMA}", "found": f"schema {schema}: {why}"},
        fix=again if schema < SCHEMA else "pip install -U segedge",
    )


_MIGRATED = 2


def _migrated(data: dict[str, Any]) -> dict[str, Any]:
    """Results of schema 2: all rows had the subject's size, and batch 1."""
    sizes = {name: data["subject"][name] for name in ("network_size", "frame_size")}
    return {**data, "rows": [{**row, **sizes} for row in data["rows"]]}
