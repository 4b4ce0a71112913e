"""LocalPool: worker processes on this machine, each with its share of cores, or its GPU."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from segedge.batch.ledger import Done
from segedge.batch.options import Job
from segedge.batch.plan import Shard
from segedge.batch.pool import Event, Failed, Finished, Lost, Refused, Started, Told
from segedge.errors import BackendError, SegedgeError, SourceError

_CORES_A_WORKER = 2
"""One decodes and encodes while the other computes; a second worker gains more than a third."""
_END_SECONDS = 5.0


def usable_gpus() -> list[str]:
    """The GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    from segedge.machine.gpu import find_driver

    count = 0
    while find_driver(index=count).gpu is not None:
        count += 1
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return visible[:count] if visible else [str(number) for number in range(count)]


def usual_workers(cores: int, gpus: int) -> int:
    """One a GPU, else one for every two cores."""
    return gpus or max(1, cores // _CORES_A_WORKER)


class LocalPool:
    """Processes that are replaced when they end."""

    def serve_of(self) -> Callable[..., None]:
        """What a worker process runs."""
        return serve

    def __init__(self, job: Job, *, workers: int, gpus: Sequence[str] = ()) -> None:
        """Start so many processes; GPUs are shared out in turn, none is the CPU."""
        self.workers = workers
        self._job = job
        # A fork would copy locks that other threads hold, and CUDA does not survive one.
        self._context = multiprocessing.get_context("spawn")
        self._gpus = [gpus[n % len(gpus)] if gpus else None for n in range(workers)]
        self._children: list[_Child] = []
        self._events: deque[Event] = deque()
        for number in range(workers):
            self._children.append(self._begin(number))

    @property
    def free(self) -> int:
        """See `Pool`."""
        return sum(child.is_free for child in self._children)

    def give(self, shard: Shard) -> None:
        """See `Pool`."""
        child = next(child for child in self._children if child.is_free)
        child.shard = shard
        with suppress(OSError):  # it has just died: `wait` sees that
            child.connection.send(shard)

    def wait(self) -> Sequence[Event]:
        """See `Pool`."""
        connections = {child.connection: n for n, child in enumerate(self._children)}
        for ready in wait(list(connections), timeout=1.0):
            self._hear(connections[ready])  # type: ignore[index]
        events = list(self._events)
        self._events.clear()
        return events

    def close(self) -> None:
        """See `Pool`. A shard in work is not finished, and leaves nothing."""
        for child in self._children:
            child.process.kill()
        for child in self._children:
            child.process.join(_END_SECONDS)
            child.connection.close()

    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [child.process.pid for child in self._children]

    def _begin(self, number: int) -> _Child:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=self.serve_of(),
            args=(theirs, self._job, self._gpus[number]),
            name=f"segedge-batch-{number}",
            daemon=True,
        )
        process.start()
        theirs.close()
        return _Child(process, ours)

    def _hear(self, number: int) -> None:
        """One message of a worker, or its end."""
        child = self._children[number]
        try:
            message = child.connection.recv()
        except (EOFError, OSError):
            self._replace(number)
            return
        self._events.append(_event(message, child))

    def _replace(self, number: int) -> None:
        child = self._children[number]
        child.process.join()
        child.connection.close()
        self._events.append(
            Lost(child.shard, _how_it_ended(child.process.exitcode), child.has_started)
        )
        self._children[number] = self._begin(number)


@dataclasses.dataclass
class _Child:
    """One worker process."""

    process: Any
    connection: Connection
    has_started: bool = False
    shard: Shard | None = None

    @property
    def is_free(self) -> bool:
        return self.has_started and self.shard is None


def _event(message: Any, child: _Child) -> Event:
    """What a worker's message means."""
    kind, *values = message
    shard = child.shard
    if kind == "started":
        child.has_started = True
        return Started(str(child.process.pid), values[0])
    if kind == "refused":
        return Refused(values[0])
    assert shard is not None, "it was given one"
    if kind == "told":
        return Told(shard, values[0])
    child.shard = None
    if kind == "done":
        done: Done = values[0]
        return Finished(shard, done)
    return Failed(shard, values[0], values[1])


def _how_it_ended(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in list(signal.Signals) else str(-code)
        hint = " (out of memory?)" if -code == signal.SIGKILL else ""
        return f"its worker was ended by {name}{hint}"
    return f"its worker ended with code {code}"


def serve(
    connection: Connection,
    job: Job,
    gpu: str | None,
    *,
    make_worker: Callable[[Job], Any] | None = None,
) -> None:
    """The worker process: shards come through the connection, what becomes of them goes.

    ``gpu`` is the one that it sees; None leaves that as it is.
    """
    # Ctrl-C and a closed terminal go to the whole group: the run's own process decides.
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):  # Windows has no SIGHUP
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    from segedge.batch.work import Worker

    try:
        worker = (make_worker or Worker)(job)
    except Exception as error:
        connection.send(("refused", sendable(error)))
        return
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the run has ended
        connection.send(("started", worker.description))
        while True:
            shard = connection.recv()
            connection.send(do_shard(worker, shard, lambda n: connection.send(("told", n))))


def do_shard(worker: Any, shard: Shard, tell: Any) -> tuple[Any, ...]:
    """A shard's end as plain values: ``("done", Done)``, or ``("failed", error, again)``."""
    try:
        return ("done", worker.do(shard, tell=tell))
    except SegedgeError as error:
        return ("failed", sendable(error), not isinstance(error, SourceError))
    except Exception as error:
        return ("failed", sendable(error), True)


def sendable(error: Exception) -> SegedgeError:
    """An error that survives pickling: ours keep their parts, others become text."""
    if isinstance(error, SegedgeError):
        return error
    return BackendError(f"{type(error).__name__}: {error}"[:500])
