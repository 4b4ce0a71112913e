"""What a worker is asked for, and how it is told."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from segedge.card.geometry import Size
from segedge.measure.bench.names import Contender


@dataclass(frozen=True)
class Job:
    """What a worker measures."""

    model: str
    """Path of the model file."""
    backend: str
    """Name of the contender, see `segedge.measure.bench.names`."""
    modes: tuple[str, ...]
    frame_height: int
    frame_width: int
    seconds: float
    batch: int = 1
    """For the mode ``network``."""
    network_height: int = 0
    """0: the card's."""
    network_width: int = 0
    program: str | None = None
    """Path of what PyTorch runs."""
    video: str | None = None
    """Path for the mode ``video``."""
    trace: str | None = None
    """Where to write a timeline of a pipelined run."""

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
