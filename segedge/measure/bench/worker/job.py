"""What a worker is asked for, and how it is told."""

from __future__ import annotations

import json
from dataclasses import dataclass

from segedge.card.geometry import Size
from segedge.card.plain import from_plain, to_plain
from segedge.measure.bench.names import Contender
from segedge.options.motion import Motion


@dataclass(frozen=True)
class Job:
    """What a worker measures: a model's path, and the name of a contender (`names`).

    The batch is that of the mode ``network``, whose size is the card's without one. PyTorch runs
    the program instead of the model; a timeline of a pipelined run is written to ``trace``;
    ``motion`` is that of the mode of this name. What it writes meanwhile goes to ``folder``, its
    parent's: one of its own would outlive a worker that is killed.
    """

    model: str
    backend: str
    modes: tuple[str, ...]
    frame: Size
    seconds: float
    batch: int = 1
    network: Size | None = None
    program: str | None = None
    video: str | None = None
    trace: str | None = None
    motion: Motion | None = None
    folder: str | None = None

    @property
    def contender(self) -> Contender:
        """What is measured."""
        return Contender.parse(self.backend)


def encode_job(job: Job) -> str:
    """The job as a worker reads it."""
    return json.dumps(to_plain(job))


def decode_job(text: str) -> Job:
    """What `encode_job` made of one."""
    return from_plain(Job, json.loads(text))
