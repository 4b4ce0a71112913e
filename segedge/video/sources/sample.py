"""Images that stand for all that a user names: evenly sampled over files, and over a video."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segedge.errors import SourceError
from segedge.video.formats import IMAGE_SUFFIXES

_LABEL_FOLDERS = frozenset({
    "label", "labels", "mask", "masks", "annotation", "annotations", "gt", "gtfine", "gtcoarse",
    "segmentationclass", "segmentationobject", "labeledapproved_full",
})  # fmt: skip
"""Where data sets keep labels, in lower case; CamVid's of SegNet end in ``annot``."""
_log = logging.getLogger("segedge")


@dataclass(frozen=True)
class ImageSample:
    """Images and videos, evenly sampled; each iteration reads them anew."""

    files: tuple[Path, ...]
    limit: int
    """At most so many images, frames of videos counted."""
    option: str
    """The user's option that named them, for errors: ``--images``."""

    def __iter__(self) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        """Name and H x W x 3 uint8 BGR image of each; SourceError where one cannot be read."""
        share = max(1, self.limit // len(self.files))
        for file in self.files:
            try:
                yield from _read(file, share)
            except SourceError as error:
                fix = f"remove it, or name the others: {self.option} 'GLOB'"
                raise SourceError(error.headline, facts=error.facts, fix=fix) from error

    def pixels(self) -> Iterator[NDArray[np.uint8]]:
        """The images without their names."""
        return (image for _, image in self)


def sample_images(where: Sequence[str | Path], *, limit: int, option: str) -> ImageSample:
    """At most ``limit`` images of what a user names for an option, evenly sampled in name order.

    A folder is searched to the bottom, but for the folders in which data sets keep their labels;
    images, videos and patterns are those that `open_source` reads.

    Raises:
        SourceError: There is none, or a video cannot be read.
    """
    try:
        found = [file for each in where for file in _files(each)]
    except SourceError as error:
        fix = error.fix or f"{option} IMAGE, FOLDER, 'GLOB' or VIDEO"
        raise SourceError(error.headline, facts=error.facts, fix=fix) from error
    if not found:
        raise SourceError(f"{option} names no images", fix=f"{option} FOLDER")
    picks = np.linspace(0, len(found) - 1, min(limit, len(found))).round().astype(int)
    return ImageSample(tuple(found[index] for index in picks), limit, option)


def _files(where: str | Path) -> Sequence[Path]:
    from segedge.video.sources.images import ImageFiles
    from segedge.video.sources.open import check_named, open_files

    check_named(where)
    if Path(where).is_dir():
        return _images_below(Path(where))
    source = open_files(where)
    return source.paths if isinstance(source, ImageFiles) else [Path(where)]


def _images_below(folder: Path) -> list[Path]:
    """All images of a folder and the folders in it that lie in no label folder."""
    from segedge.video.sources.images import is_image, natural_key

    kept: list[Path] = []
    places: Counter[str] = Counter()
    for file in filter(is_image, folder.rglob("*")):
        parts = file.relative_to(folder).parts[:-1]
        place = next((part for part in parts if _holds_labels(part)), None)
        if place is None:
            kept.append(file)
        else:
            places[place] += 1
    text = ", ".join(f"{count} files of {place}/" for place, count in sorted(places.items()))
    if not kept:
        left_out = {"left out": f"{text}: labels"} if text else {}
        facts = {"looked for": " ".join(IMAGE_SUFFIXES), **left_out}
        raise SourceError(f"no images at {folder}", facts=facts)
    if text:
        _log.info("left out    %s: labels are no images to look at", text)
    return sorted(kept, key=natural_key)


def _holds_labels(name: str) -> bool:
    return name.lower() in _LABEL_FOLDERS or name.lower().endswith("annot")


def _read(file: Path, frames: int) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """An image, or so many frames of a video."""
    from segedge.video.sources.file import VideoFile
    from segedge.video.sources.images import read_image

    if file.suffix.lower() in IMAGE_SUFFIXES:
        yield file.name, read_image(file)
        return
    for number, image in enumerate(VideoFile(file).sampled(frames)):
        yield f"{file.name} frame {number}", image
