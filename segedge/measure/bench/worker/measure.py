"""One contender, once: opened, and measured in each mode."""

from __future__ import annotations

import json
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from segedge.errors import SegedgeError
from segedge.measure.bench.durations import repeat, warm_up
from segedge.measure.bench.worker.job import Job
from segedge.measure.bench.worker.opening import checked, open_job
from segedge.measure.bench.worker.picture import pan, street_like

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from segedge.measure.bench.watch import Watch
    from segedge.segment.on_gpu import CudaSegmenter
    from segedge.segment.segmenter import Segmenter

_AT_LEAST = 10


@dataclass
class Bench:
    """What the modes of one job share."""

    job: Job
    segmenter: Segmenter | CudaSegmenter
    image_hwc: NDArray[np.uint8]
    folder: Path


def measure_job(job: Job) -> dict[str, Any]:
    """Open, first frame, then each mode; the samples in milliseconds."""
    with tempfile.TemporaryDirectory(prefix="segedge-bench-", dir=job.folder) as folder:
        return _measured(job, Path(folder))


def _measured(job: Job, folder: Path) -> dict[str, Any]:
    from segedge.measure.bench.worker.modes import FrameStep

    opened = open_job(job, folder)
    with opened.segmenter as segmenter:
        image = street_like(job.frame.height, job.frame.width)
        start_ns = time.perf_counter_ns()
        FrameStep(segmenter, image, [])()
        first_ms = (time.perf_counter_ns() - start_ns) / 1e6
        bench = Bench(job, segmenter, image, folder)
        figures = {
            "description": segmenter.backend.description,
            "import_ms": opened.import_ms,
            "open_ms": opened.open_ms,
            "build_ms": opened.build_ms,
            "first_frame_ms": first_ms,
            "modes": {mode: _figures(bench, mode) for mode in job.modes},
            "peak_memory_mb": peak_memory_mb(),
            "device_memory_mb": _device_memory_mb(segmenter),
        }
        return {**figures, "checked": checked(job, opened)}


def _figures(bench: Bench, mode: str) -> dict[str, Any]:
    """Samples, stages and what the machine did meanwhile; or why there are none."""
    from segedge.measure.bench.watch import Watch

    watch = Watch()
    try:
        figures = MEASURES[mode](bench, watch)
    except SegedgeError as error:
        return {"refused": reason(error)}
    return {**figures, "observed": asdict(watch.end())}


def _network(bench: Bench, watch: Watch) -> dict[str, Any]:
    from segedge.measure.bench.worker.modes import network_step

    step = network_step(bench.segmenter, bench.job.batch)
    return {**_repeated(bench.job, step, watch, lambda: None), "stages": []}


def _frame(bench: Bench, watch: Watch) -> dict[str, Any]:
    from segedge.measure.bench.worker.modes import FrameStep, device_stages

    step = FrameStep(bench.segmenter, bench.image_hwc, [])
    figures = _repeated(bench.job, step, watch, step.stages.clear)
    if bench.segmenter.backend.memory == "cuda":
        stages = device_stages(cast("CudaSegmenter", bench.segmenter), bench.image_hwc)
        return {**figures, "stages": stages}
    return {**figures, "stages": step.stages}


def _repeated(
    job: Job, step: Callable[[], object], watch: Watch, reset: Callable[[], None]
) -> dict[str, Any]:
    warmed = warm_up(step, seconds=job.seconds)
    reset()
    samples = repeat(step, seconds=job.seconds, at_least=_AT_LEAST, between=watch.tick)
    return {"samples_ms": samples, "is_steady": warmed.is_steady}


def _flow(bench: Bench, watch: Watch) -> dict[str, Any]:
    return _through_pipeline(bench, bench.segmenter, watch)


def _video(bench: Bench, watch: Watch) -> dict[str, Any]:
    return _through_pipeline(bench, bench.segmenter, watch, video=Path(bench.job.video or ""))


def _motion(bench: Bench, watch: Watch) -> dict[str, Any]:
    from segedge.options.frame import FrameOptions
    from segedge.options.motion import MOST_HELD

    motion, given, frame = bench.job.motion, bench.segmenter, bench.job.frame
    assert motion is not None, "the runner has checked it"
    make: Any = type(given)
    moving = make(given.card, given.backend, options=FrameOptions(motion=motion))
    together = MOST_HELD if motion.every == "auto" else motion.every
    pictures = pan(frame.height, frame.width)
    return _through_pipeline(bench, moving, watch, pictures=pictures, together=together)


def _through_pipeline(
    bench: Bench, segmenter: Segmenter | CudaSegmenter, watch: Watch, **options: Any
) -> dict[str, Any]:
    from segedge.measure.bench.worker.flow import FlowOptions, flow

    wanted = FlowOptions(bench.job.seconds, at_least=_AT_LEAST, **options)
    found = flow(segmenter, bench.image_hwc, wanted, folder=bench.folder, on_frame=watch.tick)
    stages = {stage: summary.p50_ms for stage, summary in found.report.stages.items()}
    return {
        "samples_ms": found.intervals_ms, "is_steady": found.is_steady, "stages": [stages]
    }  # fmt: skip


def _trace(bench: Bench, watch: Watch) -> dict[str, Any]:
    """A timeline of a pipelined run, written to the job's file."""
    from segedge.measure.bench.worker.flow import FlowOptions, flow
    from segedge.measure.bench.worker.trace import Recorder

    recorder, video = Recorder(), Path(bench.job.video) if bench.job.video else None
    options = FlowOptions(bench.job.seconds, at_least=_AT_LEAST, video=video, recorder=recorder)
    segmenter: Any = bench.segmenter
    if segmenter.backend.memory == "cuda":
        from segedge.segment.on_gpu import CudaSegmenter

        segmenter = CudaSegmenter(segmenter.card, segmenter.backend, timed=True)
    flow(segmenter, bench.image_hwc, options, folder=bench.folder)
    Path(bench.job.trace or "").write_text(json.dumps(recorder.document()), encoding="utf-8")
    return {"samples_ms": [], "is_steady": True, "stages": []}


MEASURES: dict[str, Callable[[Bench, Watch], dict[str, Any]]] = {
    "network": _network, "frame": _frame, "rate": _flow, "video": _video, "motion": _motion,
    "trace": _trace,
}  # fmt: skip
"""Mode to what measures it."""


def _device_memory_mb(segmenter: Segmenter | CudaSegmenter) -> float | None:
    """Memory in use on the GPU now, in 10^6 bytes: the worker's and everybody's."""
    if segmenter.backend.memory != "cuda":
        return None
    free, total = cast("CudaSegmenter", segmenter).backend.device.memory_bytes()
    used_mb: float = (total - free) / 1e6
    return round(used_mb, 1)


def reason(error: SegedgeError) -> str:
    """What went wrong, with its numbers, in one line."""
    return error.headline + "".join(f"; {label} {text}" for label, text in error.facts.items())


def peak_memory_mb() -> float:
    """Highest resident memory of this process in 10^6 bytes.

    ``ru_maxrss`` survives exec on Linux and so may be the parent's; ``VmHWM`` is this process's.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) * 1024 / 1e6, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, 1)
