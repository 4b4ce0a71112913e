"""Results made by hand."""

from __future__ import annotations

from collections.abc import Sequence

from segedge.machine.environment import Environment
from segedge.measure.bench.durations import Statistics
from segedge.measure.bench.results import Mode, Results, Row, Subject
from segedge.measure.bench.watch import Observed, Spread


def made(
    rounds: Sequence[Sequence[float]], *, size: str = "48x64", backend: str = "onnxruntime",
    sha256: str = "0" * 64, load: float = 0.0, is_steady: bool = True,
) -> Results:  # fmt: skip
    """Results of one backend in the mode frame."""
    rows = (row(rounds, backend=backend, network_size=size, is_steady=is_steady),)
    return results(rows, sha256=sha256, load=load)


def results(rows: Sequence[Row], *, sha256: str = "0" * 64, load: float = 0.0) -> Results:
    """Results of these rows."""
    environment = Environment(
        "CPU", 2, 2, None, None, "no driver", "x86_64", "Linux", "3.11.7", load,
        {"onnxruntime": "1.0"}, "2026-01-01", ("avx2",),
    )  # fmt: skip
    subject = Subject(
        "m.onnx", sha256, {}, rows[0].network_size, "96x128", len(rows[0].times.rounds_ms), 1.0
    )
    return Results(subject, environment, tuple(rows), {"tensorrt": "not installed"})


def row(
    rounds: Sequence[Sequence[float]], *, backend: str = "onnxruntime", mode: Mode = "frame",
    network_size: str = "48x64", frame_size: str = "96x128", batch: int = 1,
    is_steady: bool = True, observed: Observed | None = None, description: str = "ONNX Runtime",
) -> Row:  # fmt: skip
    """One row."""
    stages = {} if mode == "network" else {"preprocess": 0.5, "network": 1.0, "tail": 0.5}
    return Row(
        backend, mode, description, Statistics.of(rounds), stages, is_steady, 50.0, 20.0, 100.0,
        batch=batch, network_size=network_size, frame_size=frame_size, import_ms=300.0,
        observed=observed,
    )  # fmt: skip


def seen(
    *, others: float | None = 0.0, stolen: float | None = 0.0,
    mhz: tuple[float, float] | None = None, gpu_mhz: tuple[float, float] | None = None,
) -> Observed:  # fmt: skip
    """What a machine of two processors did during a second."""

    def spread(ends: tuple[float, float]) -> Spread:
        return Spread(ends[0], sum(ends) / 2, ends[1])

    gpu = {"clock_mhz": spread(gpu_mhz)} if gpu_mhz else {}
    return Observed(1.0, 150.0, others, stolen, 2, spread(mhz) if mhz else None, gpu)
