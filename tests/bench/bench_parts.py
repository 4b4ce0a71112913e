"""Results made by hand."""

from __future__ import annotations

from collections.abc import Sequence

from segedge.bench.environment import Environment
from segedge.bench.measure import Statistics
from segedge.bench.results import Results, Row, Subject


def made(
    rounds: Sequence[Sequence[float]], *, size: str = "48x64", backend: str = "onnxruntime",
    sha256: str = "0" * 64, load: float = 0.0, is_steady: bool = True,
) -> Results:  # fmt: skip
    """Results of one backend in the mode frame."""
    row = Row(
        backend, "frame", "ONNX Runtime", Statistics.of(rounds), {"network": 1.0, "tail": 0.5},
        is_steady, 50.0, 20.0, 100.0,
    )  # fmt: skip
    environment = Environment(
        "CPU", 2, 2, None, None, "no driver", "x86_64", "Linux", "3.11.7", load,
        {"onnxruntime": "1.0"}, "2026-01-01",
    )  # fmt: skip
    subject = Subject("m.onnx", sha256, {}, size, "96x128", len(rounds), 1.0)
    return Results(subject, environment, (row,), {"tensorrt": "not installed"})
