"""Calibration images: found, sampled evenly, hashed, and brought to the network as deployed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.cpu.preprocess import Preprocess
from segedge.errors import SourceError
from segedge.video.sources.sample import ImageSample, sample_images

_FEW = 16
_FIX = "--calibrate FOLDER, 'GLOB', IMAGE or VIDEO, with scenes like those the network will see"


@dataclass(frozen=True)
class CalibrationImages:
    """The files that ranges are measured on."""

    sample: ImageSample
    count: int
    """Images that are used."""
    constant: tuple[str, ...]
    """Names of images that are one colour: they are left out."""
    sha256: str
    """Over the SHA-256 of each file's contents, in order."""

    def warnings(self) -> tuple[str, ...]:
        """What a person should know of them, in sentences."""
        texts = []
        if self.count < _FEW:
            images = "one image" if self.count == 1 else f"{self.count} images"
            texts.append(
                f"calibrated on {images}: what it does not show is clipped; {_FEW} to 100 varied "
                "images are usual"
            )
        if self.constant:
            texts.append(
                f"{len(self.constant)} images are one colour and were left out, first "
                f"{self.constant[0]}"
            )
        return tuple(texts)

    def images(self) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        """Name and H x W x 3 uint8 BGR image of each that is used, read when asked for."""
        yield from ((name, image) for name, image in self.sample if not _is_constant(image))

    def tensors(self, card: ModelCard) -> Iterator[NDArray[np.float32]]:
        """The images as the network gets them when it is deployed, 1 x 3 x H x W or NHWC."""
        made: dict[tuple[int, ...], Preprocess] = {}
        for _, image in self.images():
            shape = image.shape[:2]
            if shape not in made:
                geometry = card.place(Size(*shape))
                made[shape] = Preprocess(card, geometry)
            tensor = np.empty(made[shape].shape, np.float32)
            made[shape].run(image, tensor)
            yield tensor


def find_images(where: Sequence[str | Path], *, limit: int) -> CalibrationImages:
    """Look at what a user names for calibration; refuses images that are all one colour."""
    sample = sample_images(where, limit=limit, option="--calibrate")
    names: list[str] = []
    constant: list[str] = []
    for name, image in sample:
        (constant if _is_constant(image) else names).append(name)
    if not names:
        raise SourceError(
            "all calibration images are one colour: no range can be measured on them",
            facts={"images": f"{len(constant)}, first {constant[0]}"},
            fix=_FIX,
        )
    digest = hashlib.sha256()
    for file in sample.files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return CalibrationImages(sample, len(names), tuple(constant), digest.hexdigest())


def _is_constant(image: NDArray[np.uint8]) -> bool:
    return bool((image == image[0, 0]).all())
