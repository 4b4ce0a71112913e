"""run_batch: from a model and inputs to a finished archive; resumes where an earlier run ended."""

from __future__ import annotations

import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segedge.batch.begin import (
    card_of_model,
    gpus_for,
    locked,
    marked_by,
    model_file,
    outside,
    planned,
    split,
)
from segedge.batch.inputs import find_inputs
from segedge.batch.ledger import (
    Done,
    finished,
    manifest_of,
    marked,
    read_failures,
    write_failures,
)
from segedge.batch.local import LocalPool
from segedge.batch.options import BatchOptions, Job, model_hash
from segedge.batch.plan import Plan, Shard
from segedge.batch.pool import Event, Failed, Finished, Lost, Pool, Refused, Said, Started, Told
from segedge.batch.store import TOKEN, Store, is_remote, open_store
from segedge.batch.table import merge_parts, schema_of
from segedge.errors import BackendError, SinkError, UsageError
from segedge.motion.summary import added

MOST_DEATHS = 3
"""Workers in a row that may die before they have loaded their model."""

MakePool = Callable[[Job], Pool]
"""From what workers are told to the workers."""


@dataclass(frozen=True)
class BatchProgress:
    """How far a run is."""

    frames: int
    """Done in this run, those of shards in work too."""
    total_frames: int | None
    """Of this run; None where a video does not tell."""
    shards: int
    """Done or given up in this run."""
    total_shards: int
    seconds: float
    """Since the first worker was ready."""
    workers: int
    """How many are ready."""
    failures: int

    @property
    def fps(self) -> float:
        """Frames a second, all workers together."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True)
class BatchReport:
    """What a run has done."""

    out: str
    sources: int
    """Videos and folders of images."""
    shards: int
    """Of all inputs."""
    shards_before: int
    """Finished by earlier runs."""
    shards_done: int
    """Finished by this one."""
    shards_given_up: int
    frames: int
    """Done by this run."""
    rows: int
    """Of the table: all frames of all runs."""
    seconds: float
    """From the first worker's readiness to the last shard."""
    workers: int
    workers_lost: int
    motion: dict[str, Any] | None = None
    """Of all videos of this command, where the network saw some frames: see `motion.summary`."""
    failures: tuple[dict[str, Any], ...] = ()
    """As ``failures.jsonl`` has them."""

    @property
    def fps(self) -> float:
        """Frames a second, all workers together."""
        return self.frames / self.seconds if self.seconds else 0.0


def run_batch(
    model: str | Path,
    inputs: Sequence[str],
    out: str,
    *,
    options: BatchOptions | None = None,
    workers: int = 0,
    threads: int = 0,
    tries: int = 3,
    check: bool = True,
    strict: bool = False,
    make_pool: MakePool | None = None,
    on_progress: Callable[[BatchProgress], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> BatchReport:
    """Segment many files, as far as that is not done already.

    Args:
        model: An ``.onnx`` file with its card, or an engine.
        inputs: Folders, patterns, lists, videos, images; here or behind fsspec.
        out: The archive: a folder or an fsspec address.
        options: What is made of every frame.
        workers: Processes; 0: one a GPU, else one for every two cores.
        threads: CPU threads of each; 0: the cores by the workers.
        tries: How often a shard may take its worker with it before it is given up.
        check: Let the model prove itself on each worker's backend; see `segedge.load`.
        strict: Refuse a backend or a file that is not as exported, instead of warning.
        make_pool: Other workers than processes of this machine.
        on_progress: Called every second and after every shard.
        on_note: Called with a line for what the user should know.

    Raises:
        UsageError: The archive was begun with another model or other options; no inputs.
        SourceError: An input that was named does not exist.
        SinkError: ``out`` refuses to be written, also in mid-run: finished shards are kept.
        SegedgeError: The model cannot be loaded.
    """
    options = options or BatchOptions()
    if tries < 1 or workers < 0 or threads < 0:
        raise UsageError("tries are 1 or more, workers and threads 0 (automatic) or more")
    model = model_file(model)
    card = card_of_model(model)
    gpus = gpus_for(options.backend) if make_pool is None else []
    workers, threads = split(workers, threads, len(gpus))
    place = out if is_remote(out) else str(Path(out.removeprefix("file://")).absolute())
    job = Job(
        model, model_hash(model), card.classes, place, f"{TOKEN}{uuid.uuid4().hex[:12]}", options,
        threads, check, strict,
    )  # fmt: skip
    schema_of(job.classes)  # says at once where pyarrow is missing
    files, missing = find_inputs(inputs)
    options.check(card, files)
    store = open_store(job.out)
    with locked(store), marked_by(store, job):
        plan = planned(store, outside(files, job.out), options, manifest_of(job))
        make = make_pool or (lambda job: LocalPool(job, workers=workers, gpus=gpus))
        run = _Run(job, store, plan, tries, on_progress, on_note)
        run.failures += [{"source": f.name, "reason": f.reason} for f in missing]
        return run.run(make)


class _Run:
    """One run over a plan."""

    def __init__(
        self,
        job: Job,
        store: Store,
        plan: Plan,
        tries: int,
        on_progress: Callable[[BatchProgress], None] | None,
        on_note: Callable[[str], None] | None,
    ) -> None:
        self.failures: list[dict[str, Any]] = [
            {"source": failure.name, "reason": failure.reason} for failure in plan.failures
        ]
        self._job, self._store, self._plan, self._tries = job, store, plan, tries
        self._on_progress, self._on_note = on_progress, on_note or (lambda text: None)
        ids = [shard.shard_id for shard in plan.shards]
        self._done: dict[str, Done] = finished(store, ids)
        own = set(ids)
        self._earlier = set(marked(store, [i for i in plan.shard_ids if i not in own]))
        self._failures_before = read_failures(store)
        self._before = len(self._done)
        self._waiting = deque(s for s in plan.shards if s.shard_id not in self._done)
        self._wanted = list(self._waiting)
        self._attempts: Counter[str] = Counter()
        self._given_up: set[str] = set()
        self._told: dict[str, int] = {}
        self._frames = self._lost = self._ready = self._deaths = 0
        self._start: float | None = None
        self._seconds = 0.0

    def run(self, make_pool: MakePool) -> BatchReport:
        """Do what is not done; the books are closed whatever happens."""
        workers = 0
        try:
            if self._waiting:
                pool = make_pool(self._job)
                workers = pool.workers
                try:
                    self._work(pool)
                finally:
                    pool.close()
        finally:
            self._close_failures()
        there = self._earlier | self._done.keys()
        done = [shard_id for shard_id in self._plan.shard_ids if shard_id in there]
        rows = merge_parts(self._store, done, self._job.classes)
        return BatchReport(
            out=str(self._store),
            sources=len({shard.source for shard in self._plan.shards}),
            shards=len(self._plan.shards),
            shards_before=self._before,
            shards_done=len(self._done) - self._before,
            shards_given_up=len(self._given_up),
            frames=self._frames,
            rows=rows,
            seconds=round(self._seconds, 3),
            workers=workers,
            workers_lost=self._lost,
            motion=added(done.motion for done in self._done.values() if done.motion is not None),
            failures=tuple(self.failures),
        )

    def _work(self, pool: Pool) -> None:
        while len(self._done) - self._before + len(self._given_up) < len(self._wanted):
            while pool.free and self._waiting:
                pool.give(self._waiting.popleft())
            for event in pool.wait():
                self._handle(event)
            self._tell()

    def _handle(self, event: Event) -> None:
        if isinstance(event, Started):
            self._start = self._start or time.monotonic()
            self._ready, self._deaths = self._ready + 1, 0
        elif isinstance(event, Told):
            self._told[event.shard.shard_id] = event.frames
        elif isinstance(event, Finished):
            self._finish(event.shard, event.done)
        elif isinstance(event, Failed):
            self._fail(event)
        elif isinstance(event, Lost):
            self._lose(event)
        elif isinstance(event, Said):
            self._on_note(event.text)
        elif isinstance(event, Refused):
            raise event.error

    def _finish(self, shard: Shard, done: Done) -> None:
        self._told.pop(shard.shard_id, None)
        if shard.shard_id in self._done:  # a worker that was taken for dead came through
            return
        self._done[shard.shard_id] = done
        self._frames += done.frames

    def _fail(self, event: Failed) -> None:
        if isinstance(event.error, SinkError):
            raise event.error
        self._told.pop(event.shard.shard_id, None)
        found = event.error.facts.get("found")
        reason = event.error.headline + (f": {found}" if found else "")
        if event.is_worth_trying_again:
            self._again(event.shard, reason)
        else:
            self._give_up(event.shard, reason, tries=1)

    def _lose(self, event: Lost) -> None:
        self._lost += 1
        if not event.had_started:
            self._deaths += 1
            if self._deaths >= MOST_DEATHS:
                raise BackendError(
                    f"{self._deaths} workers in a row ended before they had loaded the model",
                    facts={"found": event.reason},
                    fix=f"try it alone: segedge run {self._job.model.name} IMAGE; or --workers 1",
                )
            return
        self._ready -= 1
        if event.shard is None:
            return
        self._told.pop(event.shard.shard_id, None)
        done = finished(self._store, [event.shard.shard_id]).get(event.shard.shard_id)
        if done is not None:  # it ended between its mark and its message
            self._finish(event.shard, done)
            return
        self._again(event.shard, event.reason)

    def _again(self, shard: Shard, reason: str) -> None:
        self._attempts[shard.shard_id] += 1
        tries = self._attempts[shard.shard_id]
        if tries >= self._tries:
            self._give_up(shard, reason, tries=tries)
            return
        self._on_note(f"{shard.label}: {reason}; again ({tries} of {self._tries} tries)")
        self._waiting.append(shard)  # at the end: what kills workers must not hold up the rest

    def _give_up(self, shard: Shard, reason: str, *, tries: int) -> None:
        self._given_up.add(shard.shard_id)
        what = {"source": shard.paths[0] if shard.kind == "video" else shard.source}
        more = {"shard": shard.label, "tries": tries}
        self.failures.append({**what, "reason": reason, **more})
        self._on_note(f"{shard.label}: {reason}; given up after {tries} tries")

    def _close_failures(self) -> None:
        for shard in self._plan.shards:
            done = self._done.get(shard.shard_id)
            for failure in done.failures if done is not None else ():
                self.failures.append({"source": failure.name, "reason": failure.reason})
        named = {name for shard in self._plan.shards for name in (*shard.paths, shard.source)}
        named |= {failure["source"] for failure in self.failures}
        kept = [f for f in self._failures_before if f["source"] not in named]
        write_failures(self._store, [*kept, *self.failures])

    def _tell(self) -> None:
        if self._start is None:
            return
        self._seconds = time.monotonic() - self._start
        if self._on_progress is None:
            return
        counts = [shard.frames for shard in self._wanted]
        self._on_progress(
            BatchProgress(
                self._frames + sum(self._told.values()),
                None if None in counts else sum(count or 0 for count in counts),
                len(self._done) - self._before + len(self._given_up),
                len(self._wanted),
                self._seconds,
                self._ready,
                len(self.failures),
            )
        )
