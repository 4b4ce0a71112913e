"""Images to measure parity on: the user's own, frames of a video, or smooth noise."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segedge.card.geometry import Size
from segedge.errors import SourceError

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm")
_VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
_LABEL_FOLDERS = frozenset({
    "label", "labels", "mask", "masks", "annotation", "annotations", "gt", "gtfine", "gtcoarse",
    "segmentationclass", "segmentationobject", "labeledapproved_full",
})  # fmt: skip
"""Where data sets keep labels, in lower case; CamVid's of SegNet end in ``annot``."""
_log = logging.getLogger("segedge")
NOISE_IMAGES = 4
VIDEO_FRAMES = 24
"""How many frames stand for a video."""


def image_files(verify: str | Path, limit: int) -> list[Path]:
    """At most ``limit`` image files, evenly sampled in name order.

    Args:
        verify: An image, a video, a folder (searched to the bottom, but for the folders in which
            data sets keep their labels), or a glob.
        limit: How many at most. A video is one file here; see `read_images`.

    Raises:
        SourceError: There is none.
    """
    path = Path(verify)
    if path.is_file():
        return [path]
    left_out: dict[str, str] = {}
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in _SUFFIXES)
        files, left_out = _without_labels(path, files)
    else:
        anchor = Path(path.anchor) if path.is_absolute() else Path()
        found = anchor.glob(str(path.relative_to(path.anchor) if path.is_absolute() else path))
        files = sorted(file for file in found if file.suffix.lower() in _SUFFIXES)
    if not files:
        raise SourceError(
            f"no images at {verify}",
            facts={"looked for": " ".join(_SUFFIXES), **left_out},
            fix="--verify IMAGE, FOLDER, 'GLOB' or VIDEO",
        )
    picks = np.linspace(0, len(files) - 1, min(limit, len(files))).round().astype(int)
    return [files[index] for index in picks]


def _without_labels(folder: Path, files: list[Path]) -> tuple[list[Path], dict[str, str]]:
    """Files that lie in no label folder, and in words what was left out, which is told, too."""
    kept: list[Path] = []
    places: Counter[str] = Counter()
    for file in files:
        parts = file.relative_to(folder).parts[:-1]
        place = next((part for part in parts if _holds_labels(part)), None)
        if place is None:
            kept.append(file)
        else:
            places[place] += 1
    if not places:
        return kept, {}
    text = ", ".join(f"{count} files of {place}/" for place, count in sorted(places.items()))
    if kept:
        _log.info("left out    %s: labels are no images to look at", text)
    return kept, {"left out": f"{text}: labels"}


def _holds_labels(name: str) -> bool:
    return name.lower() in _LABEL_FOLDERS or name.lower().endswith("annot")


def read_images(files: list[Path], video_frames: int = VIDEO_FRAMES) -> Iterator[NDArray[np.uint8]]:
    """The images, H x W x 3 uint8 BGR.

    Args:
        files: Images and videos.
        video_frames: At most so many frames of each video, evenly sampled.

    Raises:
        SourceError: One cannot be decoded.
    """
    import cv2

    for file in files:
        if file.suffix.lower() in _VIDEO_SUFFIXES:
            yield from _video_frames(file, video_frames)
            continue
        image = cv2.imread(str(file), cv2.IMREAD_COLOR)
        if image is None:
            raise _undecodable(file)
        yield np.asarray(image, np.uint8)


def _video_frames(file: Path, most: int) -> Iterator[NDArray[np.uint8]]:
    """Frames of a video, evenly sampled."""
    import cv2

    capture = cv2.VideoCapture(str(file))
    try:
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        found = 0
        for index in np.linspace(0, max(count - 1, 0), max(1, min(most, count))).round():
            capture.set(cv2.CAP_PROP_POS_FRAMES, float(index))
            decoded, image = capture.read()
            if decoded:
                found += 1
                yield np.asarray(image, np.uint8)
        if not found:
            raise _undecodable(file)
    finally:
        capture.release()


def _undecodable(file: Path) -> SourceError:
    return SourceError(
        f"{file.name} cannot be decoded",
        facts={"found": f"{file.stat().st_size} bytes"},
        fix="remove it, or verify on others: --verify GLOB",
    )


def smooth_noise(size: Size, count: int = NOISE_IMAGES) -> Iterator[NDArray[np.uint8]]:
    """Random images with structure at all scales.

    White noise averages out in the first layers, so that a network answers one class everywhere
    and the comparison says nothing. Here octaves of low-frequency noise are summed, so labels
    vary over the image.
    """
    import cv2

    for seed in range(count):
        generator = np.random.default_rng(seed)
        image = np.zeros((size.height, size.width, 3), np.float32)
        for octave in (2, 4, 8, 16, 32):
            cells = (min(octave, size.height), min(octave, size.width), 3)
            coarse = generator.standard_normal(cells).astype(np.float32)
            plane = cv2.resize(coarse, (size.width, size.height), interpolation=cv2.INTER_CUBIC)
            image += plane / np.sqrt(octave)
        image = 127.5 + 60.0 * image
        yield np.clip(image, 0, 255).astype(np.uint8)
