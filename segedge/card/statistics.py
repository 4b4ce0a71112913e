"""Statistics: what a network expects of the channels inside it, so that it can meet a new camera.

A batch normalisation brings each channel to the mean beta and the deviation |gamma| on the images
of training, and exporters fold it into the convolution before it, where neither can be seen. So
both travel in the file beside the card, keyed by the names of the graph's own values.
`segedge.adaptation` compares them with what another camera gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.attachments import Attachment
from segedge.card.packed import packed, unpacked
from segedge.errors import CardError

_KIND = np.dtype("<f2")
_LARGEST = float(np.finfo(np.float16).max)
_MOST_CHANNELS = 1 << 20


@dataclass(frozen=True)
class Channels:
    """Of each channel of a value, N x C x H x W, over positions and images."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.mean)

    @classmethod
    def of_norm(
        cls, gamma: NDArray[Any], beta: NDArray[Any], variance: NDArray[Any], epsilon: float
    ) -> Channels:
        """What a batch normalisation makes of channels with the variance of its training."""
        wide = np.asarray(variance, np.float64)
        deviation = np.abs(gamma) * np.sqrt(
            np.maximum(wide, 0.0) / np.maximum(wide + epsilon, 1e-30)
        )
        return cls(np.asarray(beta, np.float64), np.asarray(deviation, np.float64))


@dataclass(frozen=True)
class Statistics:
    """What each normalised value of a graph is expected to be."""

    origin: str
    """Where they are from: ``BatchNorm``, or the images that they were measured on."""
    values: tuple[str, ...]
    """Names of values of the graph, each made by a layer with constant weights."""
    channels: tuple[int, ...]
    """Of each value."""
    mean: str
    """Of all channels, value by value, in half precision: compressed, as base64."""
    deviation: str
    """The same."""

    def __post_init__(self) -> None:
        if len(self.values) != len(self.channels) or len(set(self.values)) != len(self.values):
            raise CardError("statistics have one number of channels for each of their values")
        if any(count < 1 for count in self.channels) or sum(self.channels) > _MOST_CHANNELS:
            raise CardError(f"statistics are of 1 to {_MOST_CHANNELS} channels")
        _ = self.expected  # damage is found now

    @cached_property
    def expected(self) -> dict[str, Channels]:
        """Each value's channels."""
        count = sum(self.channels)
        mean, deviation = (
            unpacked(text, _KIND, count, what="the statistics").astype(np.float64)
            for text in (self.mean, self.deviation)
        )
        if not np.isfinite(mean).all() or not np.isfinite(deviation).all() or (deviation < 0).any():
            raise CardError("statistics are finite numbers, and deviations not below zero")
        ends = np.cumsum(self.channels)[:-1]
        parts = zip(np.split(mean, ends), np.split(deviation, ends), strict=True)
        return {
            name: Channels(*part)
            for name, part in zip(self.values, parts, strict=bool(self.values))
        }

    @classmethod
    def of(cls, origin: str, expected: Mapping[str, Channels]) -> Statistics:
        """From the channels of each value."""
        means, deviations = (
            np.concatenate([np.zeros(0), *arrays])
            for arrays in (
                [channels.mean for channels in expected.values()],
                [channels.deviation for channels in expected.values()],
            )
        )
        return cls(
            origin=origin,
            values=tuple(expected),
            channels=tuple(map(len, expected.values())),
            mean=packed(_half(means)),
            deviation=packed(_half(deviations)),
        )


def _half(values: NDArray[np.float64]) -> NDArray[np.float16]:
    return np.clip(values, -_LARGEST, _LARGEST).astype(_KIND)


STATISTICS = Attachment("segedge.statistics", Statistics, version=1, most_bytes=1 << 23)
"""How they lie among a file's metadata."""
