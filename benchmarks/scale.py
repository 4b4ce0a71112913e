"""How `segedge batch` scales from 1 worker to 2: frames a second, and their ratio, in one run.

The network is the fake backend's: no library, one thread, so that what is measured is the rest:
decoding, preprocessing, tail, masks, table, and the queue between the processes. Each worker is
held on a core of its own: else one alone would decode and encode on the second one's core.

    python benchmarks/scale.py [--rounds N] [--quick] [--save]
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from document import Document  # noqa: E402
from harness import Turns, parsed, parser_of, save, say_machine  # noqa: E402

from segedge.batch import local  # noqa: E402
from segedge.batch.options import BatchOptions, Job  # noqa: E402
from segedge.batch.run import run_batch  # noqa: E402
from segedge.batch.work import Worker  # noqa: E402
from segedge.bench.environment import Environment  # noqa: E402

WORKERS = (1, 2)
CLASSES = tuple(f"class {n}" for n in range(11))
INCLUDES = {
    "rate": "frames a second of all workers, from the readiness of the last one to the last shard: "
    "decoding, preprocessing, fake network, tail, mask as PNG, facts; not starting processes"
}


def fake_segmenter(job: Job) -> Any:
    """What a worker opens here instead of the model."""
    from segedge.backends.fake import FakeBackend
    from segedge.segmenter import Segmenter, card_of

    card = card_of(job.model)
    return Segmenter(card, FakeBackend(card), threads=job.threads)


class FakePool(local.LocalPool):
    """Worker processes with the fake backend that begin together."""

    @property
    def free(self) -> int:
        """None before all have started."""
        ready = all(child.has_started for child in self._children)
        return super().free if ready else 0

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

    from segedge.card import ModelCard

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
    for key, value in card.to_metadata().items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
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


def rate_of(workers: int, model: Path, clip: Path) -> float:
    """Frames a second of one run."""
    options = BatchOptions(shard_frames=30, confidence=False)
    cores = [str(core) for core in sorted(os.sched_getaffinity(0))]
    with tempfile.TemporaryDirectory() as folder:
        starts: list[float] = []
        report = run_batch(
            model,
            [str(clip)],
            folder,
            options=options,
            make_pool=lambda job: FakePool(job, workers=workers, gpus=cores),
            threads=1,
            on_progress=lambda p: starts.append(p.seconds) if p.frames == 0 else None,
        )
    # The clock of the report runs from the first worker's readiness, this one from the last's.
    return report.frames / (report.seconds - (starts[-1] if starts else 0.0))


def measured(rounds: int, frames: int) -> Turns:
    """Both numbers of workers in turn."""
    turns = Turns()
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder) / "fake.onnx")
        clip = write_clip(Path(folder) / "clip.mp4", frames=frames)
        for turn in range(rounds):
            for workers in WORKERS:
                print(f"round {turn + 1}/{rounds}  {workers} workers", file=sys.stderr, flush=True)
                rate = rate_of(workers, model, clip)
                turns.samples.setdefault(f"{workers} workers", []).append({"rate": [rate]})
    return turns


def main() -> None:
    """Measure, print, save."""
    parser = parser_of(__doc__, rounds=5, seconds=10.0)
    parser.add_argument("--frames", type=int, default=1800, help="of the clip")
    options = parsed(parser)
    frames = 240 if options.quick else options.frames
    environment = Environment.capture()
    say_machine(environment)
    turns = measured(options.rounds, frames)
    figures = tuple(turns.figures({"rate": "fps"}))
    for figure in figures:
        print(f"{figure.variant}  {figure.median:7.1f} frames/s  ({figure.span})")
    one, two = (turns.median(f"{workers} workers", "rate") for workers in WORKERS)
    ratio = (two or 0.0) / (one or 1.0)
    print(f"2 workers over 1: {ratio:.2f} on {len(os.sched_getaffinity(0))} cores")
    if options.save:
        document = Document(
            "scale",
            INCLUDES,
            figures,
            settings={"frames": frames, "threads a worker": 1, "shard": 30, "size": "640x480"},
            details={"2 workers over 1": ratio},
            environment=environment,
        )
        save(document, quick=options.quick)


if __name__ == "__main__":
    multiprocessing.freeze_support()
    main()
