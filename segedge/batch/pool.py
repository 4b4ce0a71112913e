"""What runs shards: the seam between the run and its workers, here or on a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from segedge.batch.ledger import Done
from segedge.batch.plan import Shard
from segedge.errors import SegedgeError


@dataclass(frozen=True)
class Started:
    """A worker has loaded its model."""

    worker: str
    description: str


@dataclass(frozen=True)
class Told:
    """So many frames of a shard are done."""

    shard: Shard
    frames: int


@dataclass(frozen=True)
class Finished:
    """A shard is done, its commit mark written."""

    shard: Shard
    done: Done


@dataclass(frozen=True)
class Failed:
    """A shard ended with an error; its worker lives."""

    shard: Shard
    error: SegedgeError
    is_worth_trying_again: bool
    """Whether the error need not be the input's."""


@dataclass(frozen=True)
class Lost:
    """A worker is gone, killed or crashed; the pool has begun another one."""

    shard: Shard | None
    """What it was doing, if anything."""
    reason: str
    had_started: bool = True
    """Whether it had loaded its model."""


@dataclass(frozen=True)
class Refused:
    """A worker cannot start, and others will not: another model, no backend."""

    error: SegedgeError


@dataclass(frozen=True)
class Said:
    """Something that the user should know."""

    text: str


Event = Started | Told | Finished | Failed | Lost | Refused | Said


class Pool(Protocol):
    """Workers, each with a loaded model."""

    @property
    def free(self) -> int:
        """How many shards can be given out now."""

    @property
    def workers(self) -> int:
        """How many workers there are to be."""

    def give(self, shard: Shard) -> None:
        """Give a shard to a free worker."""

    def wait(self) -> Sequence[Event]:
        """What has happened, at least every second (then it may be nothing)."""

    def close(self) -> None:
        """End all workers now."""
