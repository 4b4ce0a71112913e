"""The pipeline under load: fixed rates, peak, overhead, `latest` with slow models, memory.

In the manner of Isaac ROS: the source runs at a fixed 10, 15 and 30 frames a second, then as fast
as it can; reported are rate, latency percentiles, jitter, missed frames and processor use. Each
measurement runs in a process of its own, in turn, several rounds. The network is a wait of fixed
length (as on a GPU: it takes time, and no processor) unless --model names a real one.

    python benchmarks/pipeline.py --save                       # 6 minutes
    python benchmarks/pipeline.py --model m.onnx --name pipeline-model --save
    python benchmarks/pipeline.py --variant latest-400         # one, as JSON

Jitter is the difference between one interval of shown frames and the one before it.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import harness
import numpy as np

from segedge.card.card import ModelCard
from segedge.frames.frame import Frame
from segedge.frames.protocols import ResultView, Source
from segedge.pipeline.machine import memory_mb
from segedge.pipeline.runner import Pipeline
from segedge.pipeline.stats import RunReport

SIZE = (720, 1280)
NETWORK_MS = 20.0
"""The waiting network of the fixed-rate and overhead runs."""
FIXED = (10, 15, 30)
SLOW_MS = (100, 400)
MEMORY_FRAMES = 50_000
_ROUNDS = 5
INCLUDES = {
    "fps": "frames shown a second",
    "latency_p50_ms": "capture of a frame to the end of its sink, within a run",
    "latency_p95_ms": "as above",
    "latency_p99_ms": "as above",
    "latency_max_ms": "as above",
    "jitter_p50_ms": "difference between an interval of shown frames and the one before",
    "jitter_p99_ms": "as above",
    "shown": "frames that reached the sink",
    "missed": "frames that the source gave and nobody saw",
    "cpu_percent": "of one core, the whole process",
    "peak_memory_mb": "highest resident memory of the process",
    "encode_ms": "mean time of the encoder for a frame, its own account",
    "segmenter_alone_ms": "mean time of a frame through the segmenter, called one after the other",
    "per_frame_ms": "mean interval of frames through the whole pipeline",
    "overhead_percent": "per_frame_ms over the slower of segmenter and encoder",
    "frame_ms": "median time of a frame in the segmenter",
    "p99_in_frame_times": "latency_p99_ms over frame_ms: what stays bounded",
    "frames": "frames of the run",
    "memory_mb_after_a_tenth": "resident memory after a tenth of the frames",
    "memory_mb_at_the_end": "resident memory at the end",
    "growth_mb": "the difference",
    "pipeline_us_per_frame": "whole run over its frames, network and sink next to nothing",
    "load_before": "load average of the machine when the run began",
}
UNITS = {
    "fps": "frames/s", "shown": "frames", "missed": "frames", "frames": "frames",
    "cpu_percent": "%", "overhead_percent": "%", "p99_in_frame_times": "frame times",
    "load_before": "processes", "pipeline_us_per_frame": "us",
    **{name: "MB" for name in INCLUDES if name.endswith("_mb") or name.startswith("memory_mb")},
}  # fmt: skip


def card(size: tuple[int, int] = (512, 1024)) -> ModelCard:
    """A card of 19 classes at stride 8."""
    shades = tuple((k * 13 % 256, k * 47 % 256, k * 101 % 256) for k in range(19))
    return ModelCard(
        classes=tuple(f"class{k}" for k in range(19)),
        palette_rgb=shades,
        input_height=size[0],
        input_width=size[1],
        stride=8,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )


def waiting_segmenter(network_ms: float, model: Path | None) -> Any:
    """The real pre- and postprocessing around a network that waits, or a real model."""
    if model is not None:
        from segedge.segment.load import load

        return load(model)
    from segedge.backends.fake import FakeBackend
    from segedge.segment.segmenter import Segmenter

    made = card()
    logits = np.random.default_rng(0).normal(size=(1, 19, 8, 16)).astype(np.float32)
    logits = np.ascontiguousarray(logits.repeat(8, axis=2).repeat(8, axis=3))

    def network(tensor: np.ndarray) -> np.ndarray:
        time.sleep(network_ms / 1e3)
        return logits

    return Segmenter(made, FakeBackend(made, network=network))


def warm(segmenter: Any) -> None:
    """Compile and allocate before anything counts."""
    from segedge.card.geometry import Size

    for _ in range(3):
        segmenter.warm_up(Size(*SIZE))


def row_of(report: RunReport) -> dict[str, float]:
    """The figures of one run."""
    latency, jitter = report.latency, report.jitter
    assert latency is not None
    assert jitter is not None
    return {
        "fps": report.fps,
        "latency_p50_ms": latency.p50_ms,
        "latency_p95_ms": latency.p95_ms,
        "latency_p99_ms": latency.p99_ms,
        "latency_max_ms": latency.max_ms,
        "jitter_p50_ms": jitter.p50_ms,
        "jitter_p99_ms": jitter.p99_ms,
        "shown": float(report.written),
        "missed": float(report.dropped),
        "cpu_percent": report.machine["process"]["cpu_percent"],
        "peak_memory_mb": report.machine["process"]["peak_memory_mb"],
    }


class VideoOut:
    """An H.264 file in a folder that goes away."""

    def __init__(self, source: Source) -> None:
        from segedge.video.sinks.open import open_sink

        self._folder = tempfile.TemporaryDirectory()
        self.sink = open_sink(Path(self._folder.name) / "out.mp4", info=source.info)


def fixed(rate: int, seconds: float, model: Path | None) -> dict[str, float]:
    """A live source at a fixed rate, overlay and H.264 file, policy ``latest``."""
    from segedge.pipeline.limits import LimitedSource
    from segedge.video.sources.open import open_source

    segmenter = waiting_segmenter(NETWORK_MS, model)
    warm(segmenter)
    source = LimitedSource(open_source(f"test:720p{rate}"), frames=int(rate * seconds))
    out = VideoOut(source)
    return row_of(Pipeline(source, segmenter, [out.sink]).run())


def clip_images(count: int) -> list[np.ndarray]:
    """Frames of the test pattern."""
    from segedge.video.sources.open import open_source

    pattern: Any = open_source("test:720p30")
    return [pattern.image(index) for index in range(count)]


class Repeating:
    """Images again and again, as fast as they are taken."""

    def __init__(self, images: list[np.ndarray], count: int) -> None:
        from segedge.frames.protocols import SourceInfo

        self._images, self._count = images, count
        self.info = SourceInfo("repeating", "memory", images[0].shape[:2], 30.0, count)
        self.failures = ()

    def frames(self) -> Iterator[Frame]:
        """The images, in turn."""
        for index in range(self._count):
            yield Frame(self._images[index % len(self._images)], index, pts_seconds=index / 30)

    def close(self) -> None:
        """Nothing is open."""


def peak(seconds: float, model: Path | None) -> dict[str, float]:
    """A lossless source as fast as the rest can go, and the overhead over the slowest stage.

    The stage alone and the whole pipeline take turns, so that a busy machine disturbs both alike;
    medians over the rounds are compared. Alone, the segmenter is called frame after frame with the
    same outputs; the encoder's time is its own account. A real network on the CPU shares the
    processors with encoder and reader: then the excess is mostly theirs, and not overhead.
    """
    segmenter = waiting_segmenter(NETWORK_MS, model)
    warm(segmenter)
    images, outputs = clip_images(30), frozenset({"overlay"})

    def alone(count: int) -> float:
        start = time.perf_counter()
        for index in range(count):
            segmenter(Frame(images[index % len(images)]), outputs=outputs)
        return 1e3 * (time.perf_counter() - start) / count

    alone(len(images))
    count = max(60, int(1e3 * seconds / _ROUNDS / alone(len(images))))
    alone_ms, spent_ms, rows = [], [], []
    for _ in range(_ROUNDS):
        alone_ms.append(alone(count))
        source = Repeating(images, count)
        out = VideoOut(source)  # holds the folder
        report = Pipeline(source, segmenter, [out.sink]).run()
        assert report.interval is not None
        spent_ms.append(report.interval.mean_ms)
        rows.append({**row_of(report), "encode_ms": report.stages["encode"].mean_ms})
    row = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    slowest_ms = max(statistics.median(alone_ms), row["encode_ms"])
    return {
        **row,
        "segmenter_alone_ms": statistics.median(alone_ms),
        "per_frame_ms": statistics.median(spent_ms),
        "overhead_percent": 100.0 * (statistics.median(spent_ms) / slowest_ms - 1.0),
    }


def latest(model_ms: int, seconds: float) -> dict[str, float]:
    """A source of 30 frames a second and a model that is slower: how old is what is shown?"""
    from segedge.pipeline.limits import LimitedSource
    from segedge.video.sources.open import open_source

    segmenter = waiting_segmenter(model_ms, None)
    warm(segmenter)
    source = LimitedSource(open_source("test:720p30"), seconds=seconds)
    out = VideoOut(source)
    report = Pipeline(source, segmenter, [out.sink]).run()
    assert report.compute is not None
    row = row_of(report)
    frame_ms = report.compute.p50_ms
    return {**row, "frame_ms": frame_ms, "p99_in_frame_times": row["latency_p99_ms"] / frame_ms}


def memory(count: int) -> dict[str, float]:
    """Resident memory along many frames with the fake backend, labels and overlay computed."""
    from segedge.backends.fake import FakeBackend
    from segedge.segment.segmenter import Segmenter
    from segedge.video.memory import MemorySink

    made = card((64, 128))
    segmenter = Segmenter(made, FakeBackend(made))
    images = [np.full((72, 128, 3), 8 * k, np.uint8) for k in range(30)]

    class Forgetting(MemorySink):
        """Reads everything, keeps nothing; notes the memory."""

        needs = frozenset({"labels", "overlay"})
        marks: dict[int, float] = {}  # noqa: RUF012 - one instance

        def write(self, frame: Frame, result: ResultView) -> None:
            result.overlay()
            if frame.index % (count // 10) == 0:
                self.marks[frame.index] = memory_mb() or 0.0

    sink = Forgetting()
    report = Pipeline(Repeating(images, count), segmenter, [sink]).run()
    marks = [sink.marks[index] for index in sorted(sink.marks)]
    return {
        "frames": float(report.written),
        "fps": report.fps,
        "memory_mb_after_a_tenth": marks[1],
        "memory_mb_at_the_end": memory_mb() or 0.0,
        "growth_mb": (memory_mb() or 0.0) - marks[1],
        "pipeline_us_per_frame": 1e6 * report.seconds / count,
    }


def variants(
    seconds: float, model: Path | None, memory_frames: int
) -> dict[str, Callable[[], dict[str, float]]]:
    """Name to measurement."""
    table: dict[str, Callable[[], dict[str, float]]] = {
        f"fixed-{rate}": lambda rate=rate: fixed(rate, seconds, model)  # type: ignore[misc]
        for rate in FIXED
    }
    table["peak"] = lambda: peak(seconds, model)
    if model is None:
        for slow in SLOW_MS:
            table[f"latest-{slow}"] = lambda slow=slow: latest(slow, 2 * seconds)  # type: ignore[misc]
        table["memory"] = lambda: memory(memory_frames)
    return table


def main() -> int:
    """Measure what was asked for."""
    parser = harness.parser_of(__doc__, rounds=3, seconds=10.0)
    parser.add_argument("--model", type=Path, help="a real model instead of a wait")
    parser.add_argument("--name", default="pipeline", help="of the results file")
    wanted = harness.parsed(parser)
    frames = MEMORY_FRAMES // (100 if wanted.quick else 1)
    table = variants(max(wanted.seconds, 0.5), wanted.model, frames)
    if wanted.variant:
        load = os.getloadavg()[0]
        print(json.dumps({"load_before": load, **table[wanted.variant]()}))
        return 0
    run = harness.Run.begin(wanted)
    turns = run.in_turn(__file__, list(table), carry=("seconds", "quick", "model"))
    figures = turns.figures(UNITS)
    for figure in figures:
        row = f"{figure.variant:12} {figure.quantity:26} {figure.median:10.3f} {figure.unit:12}"
        print(f"{row} {figure.span}")
    network = str(wanted.model.name) if wanted.model else f"waits {NETWORK_MS:g} ms"
    settings = {"network": network, "frame": "1280x720", "seconds": wanted.seconds}
    run.write(wanted.name, INCLUDES, figures, settings, skipped=turns.skipped)
    return 0


if __name__ == "__main__":
    sys.exit(main())
