"""How `segedge batch` scales from 1 worker to 2: frames a second, and their ratio, in one run.

The network is the fake backend's: no library, one thread, so that what is measured is the rest:
decoding, preprocessing, tail, masks, table, and the queue between the processes. Each worker is
held on a core of its own: else one alone would decode and encode on the second one's core.

The CPU time of a frame tells a bad ratio's cause: where it grows with the second worker, the cores
(or what else runs on them) are in each other's way; where it does not, the workers wait.

    python benchmarks/scale.py [--rounds N] [--quick] [--save]
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from harness import Run, Turns, parsed, parser_of  # noqa: E402

from segedge.batch import local  # noqa: E402
from segedge.batch.options import BatchOptions, Job  # noqa: E402
from segedge.batch.run import run_batch  # noqa: E402
from segedge.batch.work import Worker  # noqa: E402

WORKERS = (1, 2)
CLASSES = tuple(f"class {n}" for n in range(11))
INCLUDES = {
    "rate": "frames a second of all workers, from the readiness of the last one to the last shard: "
    "decoding, preprocessing, fake network, tail, mask as PNG, facts; not starting processes",
    "cpu": "CPU time of the worker processes over the same span, a frame",
}


def fake_segmenter(job: Job) -> Any:
    """What a worker opens here instead of the model."""
    from segedge.backends.fake import FakeBackend
    from segedge.segment.load import card_of
    from segedge.segment.segmenter import Segmenter

    card = card_of(job.model)
    return Segmenter(card, FakeBackend(card), threads=job.threads)


class FakePool(local.LocalPool):
    """Worker processes with the fake backend that begin together, and the CPU time they took."""

    cpu_seconds = 0.0
    _cpu_before: float | None = None

    @property
    def free(self) -> int:
        """None before all have started."""
        if not all(child.has_started for child in self._children):
            return 0
        if self._cpu_before is None:
            self._cpu_before = self._cpu()
        return super().free

    def close(self) -> None:
        """Take the time, then end them."""
        self.cpu_seconds = self._cpu() - (self._cpu_before or 0.0)
        super().close()

    def _cpu(self) -> float:
        """User and system time of all workers, as Linux counts it."""
        stats = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2] for pid in self.pids())
        ticks = sum(int(n) for stat in stats for n in stat.split()[11:13])
        return ticks / os.sysconf("SC_CLK_TCK")

    def serve_of(self) -> Any:
        """What a worker process runs."""
        return serve


def serve(connection: Any, job: Job, gpu: str | None) -> None:
    """The worker process, on one core, whose number comes in the place of a GPU's."""
    os.sched_setaffinity(0, {int(gpu or 0)})
    local.serve(connection, job, None, make_worker=lambda job: Worker(job, opened=fake_segmenter))


def write_model(path: Path) -> Path:
    """A card with next to no network: the fake backend takes its place."""
    import onnx
    from onnx import TensorProto, helper

    from segedge.card.card import ModelCard

    info = helper.make_tensor_value_info
    shape = [1, 3, 352, 480]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["logits"])],
        "g",
        [info("x", TensorProto.FLOAT, shape)],
        [info("logits", TensorProto.FLOAT, shape)],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    palette = tuple((20 * n, 255 - 20 * n, 128) for n in range(len(CLASSES)))
    card = ModelCard(CLASSES, palette, 352, 480, stride=8)
    helper.set_model_props(proto, card.to_metadata())
    onnx.save(proto, path)
    return path


def write_clip(path: Path, *, frames: int) -> Path:
    """A moving pattern, 640x480, a key frame every 30 frames."""
    from segedge.video.ffmpeg import av

    random = np.random.default_rng(0)
    ground = random.integers(0, 255, (480 // 8, 640 // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.options = {"preset": "veryfast", "x264-params": "keyint=30:scenecut=0"}
        stream.height, stream.width, stream.pix_fmt = 480, 640, "yuv420p"
        for index in range(frames):
            image = np.ascontiguousarray(np.roll(ground, 3 * index, axis=1))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode(None))
    return path


def run_of(workers: int, model: Path, clip: Path) -> dict[str, list[float]]:
    """Frames a second, and CPU milliseconds a frame, of one run."""
    options = BatchOptions(shard_frames=30, confidence=False)
    cores = [str(core) for core in sorted(os.sched_getaffinity(0))]
    pools: list[FakePool] = []

    def make(job: Job) -> FakePool:
        pools.append(FakePool(job, workers=workers, gpus=cores))
        return pools[0]

    with tempfile.TemporaryDirectory() as folder:
        starts: list[float] = []
        report = run_batch(
            model,
            [str(clip)],
            folder,
            options=options,
            make_pool=make,
            threads=1,
            on_progress=lambda p: starts.append(p.seconds) if p.frames == 0 else None,
        )
    # The clock of the report runs from the first worker's readiness, this one from the last's.
    rate = report.frames / (report.seconds - (starts[-1] if starts else 0.0))
    return {"rate": [rate], "cpu": [1e3 * pools[0].cpu_seconds / report.frames]}


def measured(rounds: int, frames: int) -> Turns:
    """Both numbers of workers in turn."""
    turns = Turns()
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder) / "fake.onnx")
        clip = write_clip(Path(folder) / "clip.mp4", frames=frames)
        for turn in range(rounds):
            for workers in WORKERS:
                print(f"round {turn + 1}/{rounds}  {workers} workers", file=sys.stderr, flush=True)
                found = run_of(workers, model, clip)
                turns.samples.setdefault(f"{workers} workers", []).append(found)
    return turns


def ratios(turns: Turns) -> list[float]:
    """Two workers over one, of each round: what slows a machine down slows both."""
    one, two = (turns.samples[f"{workers} workers"] for workers in WORKERS)
    return [b["rate"][0] / a["rate"][0] for a, b in zip(one, two, strict=True)]


def main() -> None:
    """Measure, print, save."""
    parser = parser_of(__doc__, rounds=5, seconds=10.0)
    parser.add_argument("--frames", type=int, default=1800, help="of the clip")
    options = parsed(parser)
    frames = 240 if options.quick else options.frames
    run = Run.begin(options)
    turns = measured(options.rounds, frames)
    figures = tuple(turns.figures({"rate": "fps", "cpu": "ms"}))
    for figure in figures:
        what = {"fps": "frames/s", "ms": "ms of CPU a frame"}[figure.unit]
        print(f"{figure.variant}  {figure.median:7.1f} {what}  ({figure.span})")
    each = ratios(turns)
    ratio = statistics.median(each)
    text = ", ".join(f"{value:.2f}" for value in each)
    print(f"2 workers over 1: {ratio:.2f} ({text}) on {len(os.sched_getaffinity(0))} cores")
    settings = {"frames": frames, "threads a worker": 1, "shard": 30, "size": "640x480"}
    details = {"2 workers over 1": ratio, "of each round": each}
    run.write("scale", INCLUDES, figures, settings, details=details)


if __name__ == "__main__":
    multiprocessing.freeze_support()
    main()
