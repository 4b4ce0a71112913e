"""The pipeline under load: fixed rates, peak, overhead, `latest` with slow models, memory, start.

In the manner of Isaac ROS: the source runs at a fixed 10, 15 and 30 frames a second, then as fast
as it can; reported are rate, latency percentiles, jitter, missed frames and processor use. Each
measurement runs in a process of its own. The network is a wait of fixed length (as on a GPU: it
takes time, and no processor) unless --model names a real one.

    python benchmarks/pipeline.py                       # all, 4 minutes; results/pipeline.json
    python benchmarks/pipeline.py --model m.onnx --name pipeline-m
    python benchmarks/pipeline.py --variant latest-400  # one, as JSON

Jitter is the difference between one interval of shown frames and the one before it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from benchmarks.harness import write_results  # noqa: E402
from segedge.card import ModelCard  # noqa: E402
from segedge.frame import Frame  # noqa: E402
from segedge.pipeline.machine import memory_mb  # noqa: E402
from segedge.pipeline.runner import Pipeline  # noqa: E402
from segedge.pipeline.stats import RunReport  # noqa: E402
from segedge.video.protocols import ResultView, Source  # noqa: E402

SIZE = (720, 1280)
NETWORK_MS = 20.0
"""The waiting network of the fixed-rate and overhead runs."""
FIXED = (10, 15, 30)
SLOW_MS = (100, 400)
MEMORY_FRAMES = 50_000
_ROUNDS = 5


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
        from segedge.segmenter import load

        return load(model)
    from segedge.backends.fake import FakeBackend
    from segedge.segmenter import Segmenter

    made = card()
    logits = np.random.default_rng(0).normal(size=(1, 19, 8, 16)).astype(np.float32)
    logits = np.ascontiguousarray(logits.repeat(8, axis=2).repeat(8, axis=3))

    def network(tensor: np.ndarray) -> np.ndarray:
        time.sleep(network_ms / 1e3)
        return logits

    return Segmenter(made, FakeBackend(made, network=network))


def warm(segmenter: Any) -> None:
    """Compile and allocate before anything counts."""
    from segedge.geometry import Size

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
        from segedge.video.output import open_sink

        self._folder = tempfile.TemporaryDirectory()
        self.sink = open_sink(Path(self._folder.name) / "out.mp4", info=source.info)


def fixed(rate: int, seconds: float, model: Path | None) -> dict[str, float]:
    """A live source at a fixed rate, overlay and H.264 file, policy ``latest``."""
    from segedge.pipeline.limits import LimitedSource
    from segedge.video.open import open_source

    segmenter = waiting_segmenter(NETWORK_MS, model)
    warm(segmenter)
    source = LimitedSource(open_source(f"test:720p{rate}"), frames=int(rate * seconds))
    out = VideoOut(source)
    return row_of(Pipeline(source, segmenter, [out.sink]).run())


def clip_images(count: int) -> list[np.ndarray]:
    """Frames of the test pattern."""
    from segedge.video.open import open_source

    pattern: Any = open_source("test:720p30")
    return [pattern.image(index) for index in range(count)]


class Repeating:
    """Images again and again, as fast as they are taken."""

    def __init__(self, images: list[np.ndarray], count: int) -> None:
        from segedge.video.protocols import SourceInfo

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
    from segedge.video.open import open_source

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
    from segedge.segmenter import Segmenter
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


def startup(model: Path | None) -> dict[str, float]:
    """Wall time of whole commands, median of five: the help, and one frame of a file to a file."""

    def wall(*words: object) -> float:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            command = [sys.executable, "-m", "segedge", *map(str, words)]
            subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    row = {"help_seconds": wall("--help")}
    clip = ROOT.parent / "shared/data/video/car-detection.mp4"
    if model is not None and clip.is_file():
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out.mp4"
            wall("run", model, clip, "--frames", 1, "-o", out)  # fills the caches
            row["one_frame_seconds"] = wall("run", model, clip, "--frames", 1, "-o", out)
    return row


def variants(seconds: float, model: Path | None) -> dict[str, Callable[[], dict[str, float]]]:
    """Name to measurement."""
    table: dict[str, Callable[[], dict[str, float]]] = {
        f"fixed-{rate}": lambda rate=rate: fixed(rate, seconds, model)  # type: ignore[misc]
        for rate in FIXED
    }
    table["peak"] = lambda: peak(seconds, model)
    if model is None:
        for slow in SLOW_MS:
            table[f"latest-{slow}"] = lambda slow=slow: latest(slow, 2 * seconds)  # type: ignore[misc]
        table["memory"] = lambda: memory(MEMORY_FRAMES)
    table["startup"] = lambda: startup(model)
    return table


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", help="this one alone, printed as JSON")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each run")
    parser.add_argument("--model", type=Path, help="a real model instead of a wait")
    parser.add_argument("--name", default="pipeline", help="of the results file")
    wanted = parser.parse_args()
    table = variants(wanted.seconds, wanted.model)
    if wanted.variant:
        print(json.dumps(table[wanted.variant]()))
        return
    rows: dict[str, dict[str, float]] = {}
    for name in table:
        load = os.getloadavg()[0]
        command = [sys.executable, __file__, "--variant", name, "--seconds", str(wanted.seconds)]
        command += ["--model", str(wanted.model)] if wanted.model else []
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            print(f"{name} failed: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
            continue
        figures = json.loads(done.stdout.strip().splitlines()[-1])
        rows[name] = {"load_before": load, **{k: round(v, 3) for k, v in figures.items()}}
        print(name, "  ".join(f"{k} {v:g}" for k, v in rows[name].items()), flush=True)
    network = str(wanted.model.name) if wanted.model else f"waits {NETWORK_MS:g} ms"
    print(write_results(wanted.name, {"network": network, "frame": "1280x720", "runs": rows}))


if __name__ == "__main__":
    main()
