"""What an archive's run begins with: the model, the machine's share, the plan, the lock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from segedge.batch.inputs import InputFile
from segedge.batch.ledger import PLAN, forget, open_archive
from segedge.batch.local import usable_gpus, usual_workers
from segedge.batch.options import BatchOptions, Job
from segedge.batch.plan import Plan, make_plan, plan_lines, read_plan
from segedge.batch.store import LocalStore, Store
from segedge.card.card import ModelCard
from segedge.errors import UsageError


def model_file(model: str | Path) -> Path:
    """The file, absolute: workers are elsewhere. UsageError: it is a server's."""
    from segedge.backends.remote.address import is_address

    path = Path(model)
    if is_address(path):
        raise UsageError(
            f"segedge batch takes a model file, not {model}",
            facts={"why": "what a server runs may change in mid-archive"},
            fix="give the ONNX file; each worker loads it",
        )
    return path.absolute()


def card_of_model(model: Path) -> ModelCard:
    """Its card; ModelError where there is none."""
    from segedge.segment.load import card_of

    return card_of(model)


def gpus_for(backend: str) -> list[str]:
    """The GPUs that workers share, none where the backend runs on the host."""
    from segedge.backends.registry import may_run_on_host

    return [] if may_run_on_host(backend) else usable_gpus()


def split(workers: int, threads: int, gpus: int) -> tuple[int, int]:
    """Workers, and threads of each, where 0 leaves the number to the machine."""
    from segedge.machine.processors import usable_processors

    cores = usable_processors()
    workers = workers or usual_workers(cores, gpus)
    return workers, threads or max(1, cores // workers)


def outside(files: Sequence[InputFile], out: str) -> list[InputFile]:
    """Not what an earlier run has made: the archive may lie in the folder of its inputs."""
    kept = [file for file in files if not f"{file.path}/".startswith(f"{out.rstrip('/')}/")]
    if not kept:
        raise UsageError(f"all inputs are outputs: they lie in {out}", fix="--out ANOTHER")
    return kept


def planned(
    store: Store, files: Sequence[InputFile], options: BatchOptions, manifest: dict[str, Any]
) -> Plan:
    """Open the archive and plan what is not done yet; what has been replaced is forgotten."""
    open_archive(store, manifest)
    data = store.read(PLAN)
    plan = make_plan(
        files, shard_frames=options.shard_frames, known=read_plan(data) if data else ()
    )
    # Before the plan tells of the new ones: a run that is killed here does it again.
    for source in plan.replaced:
        forget(store, source)
    store.write(PLAN, plan_lines(plan.sources))
    return plan


@contextmanager
def marked_by(store: Store, job: Job) -> Iterator[None]:
    """A file that workers must see, while the run lasts."""
    store.write(job.token, b"")
    try:
        yield
    finally:
        store.remove(job.token)


@contextmanager
def locked(store: Store) -> Iterator[None]:
    """Keep other runs out of a local archive, and take away what killed ones left."""
    if not isinstance(store, LocalStore):
        yield
        return
    with store.lock():
        store.tidy()
        try:
            yield
        finally:
            store.tidy()
