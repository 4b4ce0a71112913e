"""RayPool: workers as actors of a Ray cluster, one loaded model each, placed by Ray's resources.

Ray Core's actors and not Ray Data: a shard's outputs are files and a commit mark, not rows of a
data set. Ray Data retries blocks behind the caller's back, tells neither which input took its
worker with it nor how often, and fails or drops a block as a whole; here a lost shard goes back
into one queue, is counted, and is given up by name. What is in flight is one shard a worker, so
its back-pressure has nothing to do, either.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from segedge.batch.options import Job
from segedge.batch.plan import Shard
from segedge.batch.pool import Event, Failed, Finished, Lost, Refused, Said, Started
from segedge.errors import BackendError, SegedgeError, UsageError, first_line, last_line
from segedge.machine.files import reason_of
from segedge.machine.optional import require

AUTO = "auto"
"""The cluster that RAY_ADDRESS names, or the one that runs on this machine."""

_REACH_SECONDS = 5.0
_SAY_SECONDS = 30.0
"""Without any worker after this: say what is waited for."""
_CORES_A_WORKER = 2
_ON_GPU = ("auto", "tensorrt", "onnxruntime-cuda", "eager-cuda", "torch-compile-cuda")


class RayWorker:
    """The actor. Ray makes one a process and calls one method at a time."""

    def __init__(self, job: Job) -> None:
        """Keep what is to be done; `start` does the rest, so that its errors can be told."""
        self._job = job
        self._worker: Any = None

    def start(self) -> tuple[Any, ...]:
        """Check this node and load the model: ``("started", text)`` or ``("refused", error)``."""
        from segedge.batch.local import sendable
        from segedge.batch.work import Worker, worker_name

        try:
            self._worker = Worker(self._job)
        except Exception as error:
            return ("refused", sendable(error))
        return ("started", worker_name())

    def do(self, shard: Shard) -> tuple[Any, ...]:
        """A shard; see `segedge.batch.local.do_shard`."""
        from segedge.batch.local import do_shard

        return do_shard(self._worker, shard, None)


@dataclass(frozen=True)
class Layout:
    """How many actors, and what each asks of its node."""

    workers: int
    threads: int
    """CPUs of each."""
    gpus: int
    """Of each: 1 or 0."""


def layout_of(
    nodes: Sequence[tuple[float, float]], *, backend: str, workers: int = 0, threads: int = 0
) -> Layout:
    """Share a cluster of (CPUs, GPUs) nodes out: an actor a GPU where the backend may use them.

    Else by cores. 0 ``workers``: as many as fit; 0 ``threads`` (CPUs of each): two, or what the
    smallest node has; with GPUs, a GPU's share.
    """
    gpus = sum(int(gpu) for _, gpu in nodes)
    on_gpu = gpus > 0 and backend.partition(":")[0] in _ON_GPU
    useful = [(int(cpu), int(gpu)) for cpu, gpu in nodes if cpu >= 1 and (gpu >= 1 or not on_gpu)]
    if on_gpu:
        threads = threads or min((max(1, cpu // gpu) for cpu, gpu in useful), default=1)
        fits = sum(min(gpu, cpu // threads) for cpu, gpu in useful)
    else:
        threads = threads or min((min(_CORES_A_WORKER, cpu) for cpu, _ in useful), default=1)
        fits = sum(cpu // threads for cpu, _ in useful)
    if fits < 1:
        raise UsageError(
            f"no node of the cluster has {threads} CPUs for a worker",
            facts={"nodes": ", ".join(f"{cpu:g} CPUs {gpu:g} GPUs" for cpu, gpu in nodes)},
            fix="--threads 1, or more nodes",
        )
    return Layout(workers or fits, threads, int(on_gpu))


class RayPool:
    """Actors that are replaced when they are lost, wherever Ray finds room."""

    def __init__(self, job: Job, *, address: str = AUTO, workers: int = 0, threads: int = 0):
        """Connect to ``host:6379``, ``ray://host:10001`` or `AUTO`; workers as in `layout_of`."""
        from dataclasses import replace

        self._ray = require("ray", purpose="work on a cluster")
        self._was_connected = self._ray.is_initialized()
        if not self._was_connected:
            connect(self._ray, address)
        try:
            layout = layout_of(
                _nodes(self._ray), backend=job.options.backend, workers=workers, threads=threads
            )
        except UsageError:
            self._disconnect()
            raise
        self.workers, self._layout = layout.workers, layout
        self._job = replace(job, threads=layout.threads)
        actor = self._ray.remote(RayWorker)
        self._actor = actor.options(
            num_cpus=layout.threads, num_gpus=layout.gpus, max_restarts=0, max_task_retries=0
        )
        self._actors = [self._begin() for _ in range(layout.workers)]
        self._idle_since = time.monotonic()

    @property
    def free(self) -> int:
        """See `Pool`."""
        return sum(actor.is_free for actor in self._actors)

    def give(self, shard: Shard) -> None:
        """See `Pool`."""
        actor = next(actor for actor in self._actors if actor.is_free)
        actor.shard, actor.answer = shard, actor.handle.do.remote(shard)

    def wait(self) -> Sequence[Event]:
        """See `Pool`."""
        answers = {actor.answer: n for n, actor in enumerate(self._actors) if actor.answer}
        ready, _ = self._ray.wait(list(answers), num_returns=1, timeout=1.0)
        if ready:  # all that have come by now
            ready, _ = self._ray.wait(list(answers), num_returns=len(answers), timeout=0)
        events = [self._hear(answers[answer]) for answer in ready]
        return [*events, *self._complaints()]

    def close(self) -> None:
        """See `Pool`."""
        for actor in self._actors:
            self._ray.kill(actor.handle)
        self._disconnect()

    def _disconnect(self) -> None:
        if not self._was_connected:
            self._ray.shutdown()

    def _begin(self) -> _Actor:
        handle = self._actor.remote(self._job)
        return _Actor(handle, handle.start.remote())

    def _hear(self, number: int) -> Event:
        actor = self._actors[number]
        answer, actor.answer = actor.answer, None
        shard, actor.shard = actor.shard, None
        try:
            kind, *values = self._ray.get(answer)
        except self._ray.exceptions.RayTaskError as error:  # not even unpickled: an older segedge
            return Refused(BackendError("a node cannot work", facts={"found": last_line(error)}))
        except self._ray.exceptions.RayError as error:  # died, out of reach, out of memory
            self._ray.kill(actor.handle)  # what is only out of reach must not keep its CPUs
            self._actors[number] = self._begin()
            who = f"its worker {actor.name}" if actor.name else "its worker"
            return Lost(shard, f"{who} was lost: {first_line(error)}", actor.has_started)
        if kind == "started":
            actor.has_started, actor.name = True, values[0]
            return Started(values[0], values[0])
        if kind == "refused":
            return Refused(values[0])
        assert shard is not None, "it was given one"
        if kind == "done":
            return Finished(shard, values[0])
        return Failed(shard, values[0], values[1])

    def _complaints(self) -> list[Event]:
        """Once in a while, where no worker has room."""
        if any(actor.has_started for actor in self._actors):
            self._idle_since = time.monotonic()
        if time.monotonic() - self._idle_since < _SAY_SECONDS:
            return []
        self._idle_since = time.monotonic()
        gpu = f" and {self._layout.gpus} GPU" if self._layout.gpus else ""
        return [Said(f"no worker is ready; each waits for {self._layout.threads} CPUs{gpu}")]


@dataclass
class _Actor:
    """One actor and what is expected of it."""

    handle: Any
    answer: Any
    has_started: bool = False
    name: str = ""
    """Host and process, once it has started."""
    shard: Shard | None = None

    @property
    def is_free(self) -> bool:
        return self.has_started and self.shard is None


def connect(ray: Any, address: str) -> None:
    """Join a cluster, quietly: nothing of Ray's goes to standard output."""
    _check_reach(address)
    # Warnings of Ray's about its own future, and its counting of users.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error")
    except Exception as error:  # ConnectionError, RuntimeError, ValueError, gRPC's
        raise _unreachable(address, first_line(error)) from error


def _check_reach(address: str) -> None:
    """Ray itself tries for minutes where nobody listens."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address == AUTO:
        return
    if not host or not port.isdecimal():
        raise UsageError(
            f"no address of a cluster: {address}", fix="--ray HOST:6379, or --ray ray://HOST:10001"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _REACH_SECONDS).close()
    except OSError as error:
        raise _unreachable(address, reason_of(error)) from error


def _unreachable(address: str, reason: str) -> SegedgeError:
    here = "no cluster runs on this machine, and RAY_ADDRESS names none"
    return BackendError(
        here if address == AUTO else f"the Ray cluster at {address} cannot be reached",
        facts={"found": reason},
        fix="ray start --head on its first node; this machine must be one of its nodes, or take"
        " --ray ray://HOST:10001",
    )


def _nodes(ray: Any) -> list[tuple[float, float]]:
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [(node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in alive]
