"""One backend, once, in a process of its own: ``python -m segedge.bench.worker``.

A job comes as JSON on stdin, its figures go as JSON in the last line of stdout.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from segedge.bench.measure import repeat, warm_up
from segedge.errors import BackendError, SegedgeError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from segedge.segmenter import Segmenter

_AT_LEAST = 10


@dataclass(frozen=True)
class Job:
    """What a worker measures."""

    model: str
    """Path of the model file."""
    backend: str
    modes: tuple[str, ...]
    frame_height: int
    frame_width: int
    seconds: float


def measure_job(job: Job) -> dict[str, Any]:
    """Open, first frame, then each mode; the samples in milliseconds.

    Raises:
        SegedgeError: The backend cannot run the model.
    """
    from segedge.segmenter import load

    start_ns = time.perf_counter_ns()
    segmenter = load(job.model, backend=job.backend)
    open_ms = (time.perf_counter_ns() - start_ns) / 1e6
    with segmenter:
        frame = street_like(job.frame_height, job.frame_width)
        stages: list[dict[str, float]] = []

        def one_frame() -> None:
            result = segmenter(frame, outputs=("overlay",))
            result.overlay()
            stages.append(dict(result.times.milliseconds))

        start_ns = time.perf_counter_ns()
        one_frame()
        first_ms = (time.perf_counter_ns() - start_ns) / 1e6
        modes: dict[str, Any] = {}
        for mode in job.modes:
            is_host = segmenter.backend.memory == "host"
            if mode == "network" and not is_host:
                modes[mode] = {"refused": "the network alone is measured on CPU backends only"}
                continue
            step = one_frame if mode == "frame" else network_step(cast("Segmenter", segmenter))
            warmed = warm_up(step, seconds=job.seconds)
            stages.clear()
            samples = repeat(step, seconds=job.seconds, at_least=_AT_LEAST)
            modes[mode] = {
                "samples_ms": samples, "is_steady": warmed.is_steady, "stages": list(stages)
            }  # fmt: skip
        return {
            "description": segmenter.backend.description,
            "open_ms": open_ms,
            "first_frame_ms": first_ms,
            "peak_memory_mb": peak_memory_mb(),
            "modes": modes,
        }


def network_step(segmenter: Segmenter) -> Callable[[], object]:
    """Run the network once on random numbers, into memory that is already there."""
    import numpy as np

    from segedge.fitting import check_network, network_size

    card, backend = segmenter.card, segmenter.backend
    spec, _ = check_network(card, backend)
    size = network_size(card, spec)
    planes = (size.height, size.width)
    shape = (1, 3, *planes) if card.input_layout == "nchw" else (1, *planes, 3)
    tensor = np.random.default_rng(0).standard_normal(shape).astype(np.dtype(spec.dtype))
    # A backend's first answer is its own memory; later ones go into copies that are ours.
    outputs = [np.array(array) for array in backend.run([tensor])]
    return lambda: backend.run([tensor], outputs)


def street_like(height: int, width: int) -> NDArray[np.uint8]:
    """A drawn picture with areas and edges: noise would be unfair to the tail, grey too kind."""
    import cv2
    import numpy as np

    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    image = np.stack([200 - 120 * y / height, 90 + 80 * x / width, 60 + 90 * y / height], axis=2)
    picture = np.ascontiguousarray(image.astype(np.uint8))
    random = np.random.default_rng(0)
    for _ in range(40):
        left, top = (int(random.integers(0, limit)) for limit in (width, height))
        size = int(random.integers(1, 1 + max(1, height // 4)))
        color = [int(value) for value in random.integers(0, 256, 3)]
        cv2.rectangle(picture, (left, top), (left + size, top + 2 * size), color, -1)
    return picture


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


def encode_job(job: Job) -> str:
    """The job as a worker reads it."""
    return json.dumps(asdict(job))


def main() -> None:
    """Read the job, measure, answer; errors of the user's go back as data."""
    data = json.loads(sys.stdin.read())
    try:
        answer = measure_job(Job(**{**data, "modes": tuple(data["modes"])}))
    except SegedgeError as error:
        answer = {"error": {"headline": error.headline, "facts": error.facts, "fix": error.fix}}
    except MemoryError:
        answer = {"error": {"headline": BackendError("out of memory").headline}}
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
