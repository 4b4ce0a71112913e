"""Opening what a worker measures, and what that takes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.card.modelfile import read_card
from segedge.errors import BackendError
from segedge.machine.optional import IMPORT_MS
from segedge.measure.bench.worker.job import Job

if TYPE_CHECKING:
    from segedge.segment.check import Stamps
    from segedge.segment.on_gpu import CudaSegmenter
    from segedge.segment.segmenter import Segmenter


@dataclass(frozen=True)
class Opened:
    """A segmenter, and what it took to have one."""

    path: Path
    """The file that was opened."""
    stamps: Stamps
    """Of this file, before it was opened."""
    segmenter: Segmenter | CudaSegmenter
    import_ms: float
    """Python's imports: segedge, NumPy, OpenCV, Numba, the inference library."""
    open_ms: float
    """Reading, optimising and compiling the model, without imports and engine building."""
    build_ms: float | None
    """What building the engine takes, now or when it was put into the cache; None without one."""


def open_job(job: Job, folder: Path) -> Opened:
    """Open a model; a graph that is made for it goes into the folder."""
    start_ns = time.perf_counter_ns()
    # What `segedge.load` would import; the library follows and is counted by `require`.
    from segedge.segment.check import stamps_of
    from segedge.segment.load import load  # noqa: F401

    import_ms = (time.perf_counter_ns() - start_ns) / 1e6
    path, card = _files(job, folder)
    imported_ms, start_ns = sum(IMPORT_MS.values()), time.perf_counter_ns()
    stamps, segmenter = stamps_of(path), _opened(job, path, card)
    passed_ms = (time.perf_counter_ns() - start_ns) / 1e6
    library_ms = sum(IMPORT_MS.values()) - imported_ms
    built = getattr(getattr(segmenter.backend, "facts", None), "build_seconds", None)
    build_ms = None if built is None else 1000.0 * built
    open_ms = passed_ms - library_ms
    if build_ms is not None and open_ms > build_ms:  # else it came from the cache
        open_ms -= build_ms
    return Opened(path, stamps, segmenter, import_ms + library_ms, open_ms, build_ms)


def checked(job: Job, opened: Opened) -> dict[str, Any] | None:
    """What came of the file's proof; asked last, for it takes a frame that nobody measures."""
    from segedge.segment.check import Prover

    segmenter = opened.segmenter
    prover = Prover.of(opened.path, segmenter.card, stamps=opened.stamps)
    found = None if prover is None else prover.check(job.contender.backend, segmenter.backend)
    return None if found is None else found.to_dict()


def _files(job: Job, folder: Path) -> tuple[Path, ModelCard]:
    """The file that is opened, and the card that it is opened with."""
    path = Path(job.model)
    card = read_card(path)
    if card is None:
        raise BackendError(f"{path.name} carries no card")
    network = job.network or card.input_size
    if job.contender.has_tail:
        from segedge.convert.passes.put_tail_back import with_tail

        path = folder / f"{path.stem}-tail.onnx"
        card = with_tail(Path(job.model), path)
    if job.contender.needs_program:
        assert job.program is not None, "the runner has checked it"
        path = Path(job.program)
    return path, card.replace(input_height=network.height, input_width=network.width)


def _opened(job: Job, path: Path, card: ModelCard) -> Segmenter | CudaSegmenter:
    from segedge.segment.load import load

    if job.contender.base == "tensorrt" and job.batch > 1:
        return _tensorrt_of_batch(job, path, card)
    segmenter = load(path, backend=job.contender.backend, card=card, check=False)
    if job.contender.needs_program:
        return _fitted(segmenter, card)
    return segmenter


def _tensorrt_of_batch(job: Job, path: Path, card: ModelCard) -> CudaSegmenter:
    """An engine is built for its batch: `load` builds for one image."""
    from segedge.backends.tensorrt import TensorRtBackend
    from segedge.engine.options import BatchRange, BuildOptions
    from segedge.segment.on_gpu import CudaSegmenter

    variant: Any = job.contender.backend.partition(":")[2] or None
    options = BuildOptions(precision=variant, batch=BatchRange(1, job.batch, job.batch))
    return CudaSegmenter(card, TensorRtBackend(path, options=options))


def _fitted(segmenter: Segmenter | CudaSegmenter, card: ModelCard) -> Segmenter | CudaSegmenter:
    """A program has a size of its own, and may have its upsampling inside."""
    (given, *_), (output, *_) = segmenter.backend.specs
    size = Size(*(int(axis or 0) for axis in given.shape[2:]))
    if size != card.input_size:
        raise BackendError(
            "the torch program is of another size than the model",
            facts={"program": str(size), "model": str(card.input_size)},
            fix="export both at one --size",
        )
    if card.head == "logits" and output.shape[2:] == given.shape[2:] and card.stride > 1:
        make: Any = type(segmenter)
        fitted: Segmenter | CudaSegmenter = make(card.replace(stride=1), segmenter.backend)
        return fitted
    return segmenter
