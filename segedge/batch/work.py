"""The worker: one loaded model, shards in, finished files out. The same here and on Ray."""

from __future__ import annotations

import dataclasses
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segedge.batch.ledger import MASKS, OVERLAYS, SHARDS, Done
from segedge.batch.options import Job, model_hash
from segedge.batch.plan import Shard
from segedge.batch.store import Store, local_copy, open_store
from segedge.batch.table import FactsSink, encode_rows, facts_needs, stem_of
from segedge.errors import SinkError, SourceError, UsageError
from segedge.frames.protocols import Sink, Source, SourceFailure
from segedge.options.style import OverlayStyle
from segedge.pipeline.runner import Pipeline
from segedge.pipeline.stats import Progress
from segedge.segment.load import load
from segedge.version import __version__
from segedge.video.sinks.images import FolderSink, Picture
from segedge.video.sources.file import VideoFile
from segedge.video.sources.images import ImageFiles

if TYPE_CHECKING:
    from segedge.frames.frame import Frame

_TELL_SECONDS = 0.5
"""How often a worker tells how far it is."""

Tell = Callable[[int], None]
"""Called with the frames of the shard that are done."""
Open = Callable[[Job], Any]
"""What makes a segmenter of a job."""


class Interrupted(Exception):  # noqa: N818 - a wish, not a failure
    """The worker was asked to end in mid-shard; nothing of the shard counts."""


def open_model(job: Job) -> Any:
    """The job's segmenter."""
    return load(
        job.model,
        backend=job.options.backend,
        threads=job.threads,
        style=OverlayStyle(opacity=job.options.opacity),
        cleaning=job.options.cleaning,
        slide=job.options.slide,
        motion=job.options.motion,
        check=job.check,
        strict=job.strict,
    )


class Worker:
    """Does shards, one after the other."""

    def __init__(self, job: Job, *, opened: Open = open_model) -> None:
        """Check that this place is as the job wants it, and load the model."""
        check_place(job)
        self._job = job
        self._store = open_store(job.out)
        check_store(self._store, job)
        self._segmenter = opened(job)
        head = self._segmenter.card.head
        self._has_confidence = job.options.confidence and head != "labels"
        if job.options.slide is None:  # compile before the clock runs
            needs = facts_needs(self._has_confidence)
            needs |= {"overlay"} if job.options.overlays else set()
            self._segmenter.warm_up(self._segmenter.card.input_size, outputs=needs)
        self.description = f"{self._segmenter.backend.description}, {job.threads} threads"

    def do(self, shard: Shard, *, tell: Tell | None = None) -> Done:
        """Do a shard: its files, its facts, and last the mark that it is finished."""
        start = time.monotonic()
        facts = FactsSink(
            shard,
            model_sha256=self._job.model_sha256,
            confidence=self._has_confidence,
            threads=self._job.threads,
        )
        with self._store.staging() as folder:
            failures, motion = self._run(shard, folder, facts, tell)
            self._publish(shard, folder)
        data = encode_rows(facts.rows, self._job.classes)
        self._store.write(f"{SHARDS}/{shard.shard_id}.parquet", data)
        done = Done(
            shard.shard_id,
            len(facts.rows),
            tuple(failures),
            round(time.monotonic() - start, 3),
            worker_name(),
            motion,
        )
        self._store.write(f"{SHARDS}/{shard.shard_id}.json", done.to_json())
        return done

    def close(self) -> None:
        """Free the model."""
        self._segmenter.close()

    def _run(
        self, shard: Shard, folder: Path, facts: FactsSink, tell: Tell | None
    ) -> tuple[list[SourceFailure], dict[str, Any] | None]:
        """Frames to files in ``folder`` and rows in ``facts``.

        What could not be read, and what motion amounted to (`RunReport.motion`).
        """
        motion = self._job.options.motion
        needs_vectors = motion is not None and motion.needs_vectors
        with _opened(shard, motion_vectors=needs_vectors) as source:
            sinks = [*self._sinks(shard, folder), facts]
            pipeline = Pipeline(source, self._segmenter, sinks, on_progress=_every(tell))
            try:
                report = pipeline.run()
            except SourceError as error:
                if shard.kind == "images" and facts.rows == [] and source.failures:
                    return _named(source.failures, shard), None  # all of them, by name
                if pipeline.report is None or not facts.rows:
                    raise
                report = pipeline.report  # of what there was before
                found = error.facts.get("found", "")
                reason = f"{error.headline}{found and ': '}{found}"
                broken = SourceFailure(shard.paths[0], reason, cut=True)
                return [*_named(source.failures, shard), broken], report.motion
            if report.interrupted:
                raise Interrupted(f"{shard.label} was interrupted")
            return _named(source.failures, shard), report.motion

    def _sinks(self, shard: Shard, folder: Path) -> list[Sink]:
        def names(frame: Frame) -> str:
            return stem_of(shard, frame.index)

        pictures: list[tuple[str, Picture]] = []
        if self._job.options.masks is not None:
            pictures.append((MASKS, self._job.options.masks))
        if self._job.options.overlays:
            pictures.append((OVERLAYS, "overlay"))
        return [FolderSink(folder / kind, picture=what, names=names) for kind, what in pictures]

    def _publish(self, shard: Shard, folder: Path) -> None:
        for kind in (MASKS, OVERLAYS):
            made = folder / kind
            for path in sorted(made.iterdir()) if made.is_dir() else ():
                self._store.publish(path, f"{kind}/{shard.source}/{path.name}")


def check_place(job: Job) -> None:
    """Raise UsageError where this machine has another segedge or another model."""
    fix = "give all nodes the same: one image or environment, and the model on a shared path"
    if job.version != __version__:
        raise UsageError(
            f"{worker_name()} has another version of segedge",
            facts={"there": __version__, "expected": job.version},
            fix=fix,
        )
    found = model_hash(job.model)
    if found != job.model_sha256:
        raise UsageError(
            f"{worker_name()} has another model under the name {job.model}",
            facts={"there": found[:12], "expected": job.model_sha256[:12]},
            fix=fix,
        )


def check_store(store: Store, job: Job) -> None:
    """Raise SinkError where ``out`` is another place than it was for who started the run."""
    if store.read(job.token) is None:
        raise SinkError(
            f"{worker_name()} does not see {job.out}",
            facts={"found": "another folder of that name, or an empty one"},
            fix="take a path that all nodes share, or an address: --out s3://bucket/archive",
        )


def worker_name() -> str:
    """Host and process: ``node7:4211``."""
    return f"{socket.gethostname()}:{os.getpid()}"


@contextmanager
def _opened(shard: Shard, *, motion_vectors: bool) -> Iterator[Source]:
    """The shard as a source."""
    with ExitStack() as stack:
        source: Source
        if shard.kind == "video":
            path = stack.enter_context(local_copy(shard.paths[0]))
            source = VideoFile(path, part=shard.part, motion_vectors=motion_vectors)
        else:
            source = _Images(shard)
        stack.callback(source.close)
        yield source


class _Images:
    """Images of a shard under their numbers in the source, fetched one by one where remote."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._closed = False
        self.failures: list[SourceFailure] = []
        self.info = ImageFiles(shard.paths, name=shard.source).info

    def frames(self) -> Iterator[Frame]:
        self.failures.clear()
        for position, address in enumerate(self._shard.paths):
            if self._closed:
                return
            try:
                with local_copy(address) as path:
                    frame = next(ImageFiles([path]).frames())
            except SourceError as error:
                reason = error.facts.get("found", error.headline)
                self.failures.append(SourceFailure(address, reason))
                continue
            yield dataclasses.replace(frame, index=self._shard.first_index + position, name=address)
        if len(self.failures) == len(self._shard.paths):
            raise SourceError(f"none of {len(self.failures)} images can be read")

    def close(self) -> None:
        self._closed = True


def _named(failures: Sequence[SourceFailure], shard: Shard) -> list[SourceFailure]:
    """Under the names that the user gave, not those of fetched copies."""
    if shard.kind == "images":
        return list(failures)
    return [SourceFailure(shard.paths[0], failure.reason) for failure in failures]


def _every(tell: Tell | None) -> Callable[[Progress], None] | None:
    if tell is None:
        return None
    last = time.monotonic()

    def on_progress(progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last >= _TELL_SECONDS:
            last = time.monotonic()
            tell(progress.written)

    return on_progress
