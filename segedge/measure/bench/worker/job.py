"""What a worker is asked for, and how it is told."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from segedge.card.geometry import Size
from segedge.measure.bench.names import Contender


@dataclass(frozen=True)
class Job:
    """What a worker measures: a model's path, and the name of a contender (`names`).

    The batch is that of the mode ``network``, whose size is the card's where it is 0. PyTorch runs
    the program instead of the model; a timeline of a pipelined run is written to ``trace``.
    """

    model: str
    backend: str
    modes: tuple[str, ...]
    frame_height: int
    frame_width: int
    seconds: float
    batch: int = 1
    network_height: int = 0
    network_width: int = 0
    program: str | None = None
    video: str | None = None
    trace: str | None = None

    @property
    def contender(self) -> Contender:
        """What is measured."""
        return Contender.parse(self.backend)

    @property
    def network(self) -> Size | None:
        """Input size; None: the card's."""
        return Size(self.network_height, self.network_width) if self.network_height else None


def encode_job(job: Job) -> str:
    """The job as a worker reads it."""
    return json.dumps(asdict(job))


def decode_job(text: str) -> Job:
    """What `encode_job` made of one."""
    data = json.loads(text)
    return Job(**{**data, "modes": tuple(data["modes"])})
