"""Data sets whose images are the frames of a video, in order and with their times."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from segedge.errors import UsageError
from segedge.machine.files import refused
from segedge.machine.text_file import read_lines
from segedge.measure.datasets.datasets import Dataset, Sample

_CAMVID = re.compile(r"(0001TP|0006R0|0016E5|Seq05VD)_f?(\d+)")
"""Names of CamVid's images: which of its four videos, and the number of the frame."""
_CAMVID_FPS = 30.0
_APART_SECONDS = 61.0
"""Between images of different videos: longer than any `Motion.gap_seconds`, so all begins anew."""


@dataclass(frozen=True)
class TimedSample:
    """A labelled frame of a video."""

    sample: Sample
    seconds: float | None
    """Its time; None where only the order is known."""


def recorded(dataset: Dataset) -> tuple[TimedSample, ...]:
    """The images of a data set that is known to be videos: CamVid, by the names of its images.

    A new one begins where the prefix changes, or the step from one number to the next.

    Raises:
        UsageError: The names are others.
    """
    places = [_CAMVID.match(Path(sample.name).stem) for sample in dataset]
    found: list[TimedSample] = []
    before, number, step, seconds = "", 0, 0, 0.0
    for sample, place in zip(dataset, places, strict=True):
        if place is None:
            raise UsageError(
                "images are no video: nothing moves from one to the next",
                facts={"found": f"{dataset.name}, {sample.name}"},
                fix="--sequence, where they lie in the order in which they were taken; --sequence"
                " LIST.txt with a line 'IMAGE SECONDS' each; else leave --every out",
            )
        passed = int(place[2]) - number
        goes_on = place[1] == before and step in (0, passed)
        seconds += passed / _CAMVID_FPS if goes_on else _APART_SECONDS
        before, number, step = place[1], int(place[2]), passed if goes_on else 0
        found.append(TimedSample(sample, seconds))
    return tuple(found)


def by_name(dataset: Dataset) -> tuple[TimedSample, ...]:
    """All images as the frames of one video, in the natural order of their names."""
    return tuple(TimedSample(sample, None) for sample in dataset)


def listed(dataset: Dataset, path: Path) -> tuple[TimedSample, ...]:
    """The images in the order and with the times of a list: ``IMAGE SECONDS`` a line, # comments.

    An image goes by its path below the data set, or by its file name, with or without ending. Where
    time steps back, or by more than `Motion.gap_seconds`, another video begins.

    Raises:
        UsageError: The list cannot be read, names no image of the data set, or leaves one out.
    """
    samples = _by_any_name(dataset.samples)
    found = [_found(samples, dataset, path, *line) for line in _lines(path)]
    names = Counter(timed.sample.name for timed in found)
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice is not None:
        raise UsageError(f"{path} names {twice} twice", fix="an image has one time")
    left = [sample.name for sample in dataset if sample.name not in names]
    if left:
        raise UsageError(
            f"{path} has no time for {len(left)} of {len(dataset)} labelled images",
            facts={"first": left[0]},
            fix="give each of them a line 'IMAGE SECONDS'",
        )
    return tuple(found)


def _found(
    samples: dict[str, Sample | None], dataset: Dataset, path: Path, name: str, seconds: float
) -> TimedSample:
    sample = samples.get(name)
    if sample is None:
        why = "several images go by that name" if name in samples else "no labelled image"
        raise UsageError(
            f"{path}: {why}: {name}",
            facts={"data set": f"{dataset.name}, first {dataset.samples[0].name}"},
            fix="write paths below the data set's folder",
        )
    return TimedSample(sample, seconds)


def _by_any_name(samples: Sequence[Sample]) -> dict[str, Sample | None]:
    """Samples by path, file name and stem; None where several have one."""
    found: dict[str, Sample | None] = {}
    for sample in samples:
        path = Path(sample.name)
        for name in dict.fromkeys((sample.name, path.name, path.stem)):
            found[name] = None if name in found else sample
    return found


def _lines(path: Path) -> Iterator[tuple[str, float]]:
    """Image and seconds of each line."""
    fix = "a text file with a line 'IMAGE SECONDS' each"
    with refused(f"the list {path} cannot be read", UsageError, fix=fix):
        lines = read_lines(path)
    for line in lines:
        name, _, word = line.text.replace("\t", " ").rpartition(" ")
        try:
            seconds = float(word)
        except ValueError:
            seconds = math.nan
        if not name or not math.isfinite(seconds):
            raise UsageError(
                f"{path}, line {line.number}: no image with its seconds",
                facts={"found": line.text},
                fix="frames/000123.png 4.92",
            )
        yield name.strip(), seconds
