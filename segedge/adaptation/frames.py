"""Frames of a camera: sampled evenly over the time, and brought to the network as deployed.

Each frame is decoded once; its tensor waits in a temporary file for the passes over it, because 64
of them at 1024x2048 would be 800 MB of memory.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import cv2
import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.card.picture import Triple
from segedge.convert.proof import Pixels
from segedge.cpu.preprocess import Preprocess
from segedge.drift.glance import thinned
from segedge.errors import SinkError, SourceError
from segedge.frames.closing import Closing
from segedge.frames.protocols import Source
from segedge.video.sources.sample import sample_images

LEAST_FRAMES = 4
"""Of different content: fewer say what one picture is like, not what a camera sees."""
_THUMB = 16
_SAME_LEVELS = 1.0
"""Mean difference of two thumbnails, in levels of 255, below which they show the same."""
_FIX = "--images FOLDER, 'GLOB', VIDEO or CAMERA, with what the camera sees over some hours"
Tick = Callable[[str, int, int], None]


@dataclass(frozen=True)
class FrameFacts:
    """What was sampled."""

    count: int
    """Frames that are used."""
    different: int
    """How many of them show something else than those before."""
    constant: int
    """Frames of one colour: they are left out."""
    sha256: str
    """Over the pixels of those used, in order."""
    levels: tuple[Triple, Triple] | None
    """Their mean and contrast."""


class Frames(Closing):
    """Tensors of sampled frames, in a temporary file that is gone when this is closed."""

    def __init__(self, card: ModelCard) -> None:
        self._card = card
        self._made: dict[tuple[int, ...], Preprocess] = {}
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed by close()
        self._digest = hashlib.sha256()
        self._thumbs: list[NDArray[np.float32]] = []
        self._pixels = Pixels()
        self.seen: list[tuple[Size, NDArray[np.uint8]]] = []
        """Size and `thinned` pixels of each frame that is used."""
        self._shape = card.input_shape()
        self._different = self._count = self._constant = 0

    @property
    def facts(self) -> FrameFacts:
        """What was sampled so far."""
        return FrameFacts(
            self._count, self._different, self._constant, self._digest.hexdigest(),
            self._pixels.levels,
        )  # fmt: skip

    def add(self, image: NDArray[np.uint8]) -> None:
        """One frame more, H x W x 3 uint8 BGR; one of a single colour is left out."""
        if (image == image[0, 0]).all():
            self._constant += 1
            return
        size = Size(*image.shape[:2])
        if image.shape not in self._made:
            geometry = self._card.place(size)
            self._made[image.shape] = Preprocess(self._card, geometry, dtype="float16")
        tensor = np.empty(self._shape, np.float16)
        self._made[image.shape].run(image, tensor)
        try:
            self._file.write(tensor.data)
        except OSError as error:
            raise SinkError(
                "the frames do not fit into the temporary folder",
                facts={"folder": tempfile.gettempdir(), "says": error.strerror or str(error)},
                fix="set TMPDIR to another, or ask for fewer: --frames",
            ) from error
        self._count += 1
        self._digest.update(np.ascontiguousarray(image).data)
        self._different += self._is_new(image)
        self.seen.append((size, thinned(image)))
        for _ in self._pixels.passing([image]):
            pass

    def _is_new(self, image: NDArray[np.uint8]) -> bool:
        small = cv2.resize(image, (_THUMB, _THUMB), interpolation=cv2.INTER_AREA)
        thumb = small.astype(np.float32)
        if any(np.abs(thumb - seen).mean() < _SAME_LEVELS for seen in self._thumbs):
            return False
        self._thumbs.append(thumb)
        return True

    def require_variety(self, where: str) -> None:
        """SourceError where there is nothing to learn from."""
        facts = self.facts
        if not facts.count:
            what = f"{facts.constant}, each of one colour" if facts.constant else "none"
            raise SourceError(
                f"{where} shows nothing that a network could be adapted to",
                facts={"frames": what}, fix=_FIX,
            )  # fmt: skip
        if facts.different < LEAST_FRAMES:
            raise SourceError(
                f"{where} has too little variety: it would fit the network to one picture",
                facts={
                    "frames": f"{facts.count}, {facts.different} of them different",
                    "expected": f"at least {LEAST_FRAMES} that show something else",
                },
                fix=_FIX,
            )

    def tensors(self, *, held_back: bool | None = None) -> Iterator[NDArray[np.float32]]:
        """The network's inputs, one by one; those held back, the others, or (None) all."""
        count = int(np.prod(self._shape))
        for number in range(self._count):
            if held_back is not None and is_held_back(number) != held_back:
                continue
            self._file.seek(2 * count * number)
            values = np.frombuffer(self._file.read(2 * count), np.float16)
            yield values.reshape(self._shape).astype(np.float32)

    def close(self) -> None:
        """Let the temporary file go."""
        self._file.close()


def is_held_back(number: int) -> bool:
    """Every fourth frame judges what the others are measured on."""
    return number % 4 == 2


def sample_frames(
    where: str | Path, card: ModelCard, *, frames: int, seconds: float, progress: Tick
) -> Frames:
    """Frames of a folder, pattern, image, video, camera or stream, evenly spread over the time.

    A live source is watched for ``seconds``.
    """
    found = Frames(card)
    try:
        for number, image in enumerate(_images(where, frames=frames, seconds=seconds)):
            progress("looking", number + 1, frames)
            found.add(image)
    except BaseException:
        found.close()
        raise
    return found


def _images(where: str | Path, *, frames: int, seconds: float) -> Iterator[NDArray[np.uint8]]:
    if isinstance(where, str) and not Path(where).exists() and not _is_pattern(where):
        from segedge.video.sources.open import open_source

        source = open_source(where)
        with closing(source):
            if source.info.live:
                yield from _watched(source, frames, seconds)
                return
    yield from sample_images([where], limit=frames, option="--images").pixels()


def _is_pattern(text: str) -> bool:
    return any(character in text for character in "*?[") and "://" not in text


def _watched(source: Source, frames: int, seconds: float) -> Iterator[NDArray[np.uint8]]:
    """A frame every ``seconds / frames`` of a live source."""
    started, taken = time.monotonic(), 0
    for frame in source.frames():
        passed = time.monotonic() - started
        if passed >= taken * seconds / frames:
            yield frame.image_hwc
            taken += 1
        if taken == frames or passed > seconds:
            return
