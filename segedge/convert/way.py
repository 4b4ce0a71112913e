"""The original's own way from an image to a tensor, and to labels where it has one.

Parity is measured against it: no line of this package's own preprocessing is in it. A Hugging Face
folder's own way is its processor, its model and its post-processing (`segedge.convert.processor`).
Of other sources nothing is known but what the user says (``--resize``, ``--mean`` ...): that is
computed by the library whose habit it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard, ResizeRule
from segedge.card.geometry import Geometry, Size
from segedge.card.records import OwnWay
from segedge.convert.noise import smooth_noise
from segedge.convert.options import ExportReport
from segedge.errors import ExportError, MissingDependencyError
from segedge.machine.optional import installed_version, require
from segedge.reference import frame as reference
from segedge.reference.resize import is_rounded

MOST_OFF = 0.01
"""Share of the network's input that may be off by more than `FEW_LEVELS`."""
FEW_LEVELS = 2.0
WAY_IMAGES = 8
"""Of those to verify on: each goes twice through the network in PyTorch."""
_ALIKE = {"images": 0.995, "noise": 0.999}
"""Share of pixels with the same label below which the source's own enlarging is worth its time.
Noise is smoother than pictures, and loses less: a small UPerNet 0.35 %, 0.7 % of CamVid's."""
Image = NDArray[np.uint8]
Tensor = NDArray[np.float32]


class Preparing(Protocol):
    """What brings an image to the network's input in a way of its own."""

    @property
    def name(self) -> str:
        """Who computes it."""

    def tensor(self, image: Image, card: ModelCard) -> Tensor:
        """The network's input for a BGR image."""


class Labelling(Preparing, Protocol):
    """What goes on to labels in its own way, too."""

    def labels(self, tensor: Tensor, size: Size) -> NDArray[np.int64]:
        """Labels of a tensor, H x W, at a size."""


@dataclass
class Levels:
    """How far two preprocessed tensors are from each other, in grey levels."""

    most: float = 0.0
    """The largest difference."""
    off: int = 0
    """Values that differ by more than `FEW_LEVELS`."""
    values: int = 0

    def add(self, ours: Tensor, own: Tensor, card: ModelCard) -> None:
        """Take another image."""
        shape = (1, 1, 1, 3) if card.input_layout == "nhwc" else (1, 3, 1, 1)
        scale = 255.0 * np.abs(np.reshape(card.std, shape))
        apart = np.abs(ours.astype(np.float64) - own) * scale
        self.most = max(self.most, float(apart.max()))
        self.off += int(np.count_nonzero(apart > FEW_LEVELS))
        self.values += apart.size

    def require(self, card: ModelCard, way: str) -> None:
        """Raise where the two are not the same preprocessing."""
        if self.off <= MOST_OFF * self.values:
            return
        raise ExportError(
            f"images are not prepared as by {way}",
            facts={
                "differ": f"{100 * self.off / self.values:.2g} % of the values by more than "
                f"{FEW_LEVELS:g} grey levels, the worst by {self.most:.0f}",
                "segedge": f"{card.fit}, {card.resize}, {card.color.upper()}, "
                f"mean {card.mean}, std {card.std}",
            },
            fix="report it with the folder's preprocessor_config.json; until then export the "
            "module from a factory, and say --resize, --mean, --std, --fit yourself",
        )


class Independent:
    """What the card says, by torch, OpenCV or Pillow, and NumPy's plainest lines."""

    def __init__(self, rule: ResizeRule) -> None:
        """Choose the library by the resize rule; MissingDependencyError where it is not there."""
        self._rule = rule
        if is_rounded(rule):
            self._pillow = require("PIL.Image", purpose=f"check --resize {rule}")
            self.name = f"Pillow {installed_version('pillow')}"
        elif rule == "area":
            self.name = f"OpenCV {installed_version('opencv-python', 'opencv-python-headless')}"
        else:
            self._torch = require("torch", purpose=f"check --resize {rule}")
            self.name = f"torch {self._torch.__version__}"

    def tensor(self, image: Image, card: ModelCard) -> Tensor:
        """The network's input for a BGR image."""
        geometry = card.place(Size(*image.shape[:2]))
        small = self._resized(image, geometry.resized)
        top, left, bottom, right = geometry.content()
        size = (geometry.network.height, geometry.network.width, 3)
        picture = np.full(size, float(card.pad_value), np.float32)
        picture[top:bottom, left:right] = small[
            top - geometry.top : bottom - geometry.top, left - geometry.left : right - geometry.left
        ]
        inside = np.zeros(size[:2], bool)
        inside[top:bottom, left:right] = True
        if card.color == "rgb":
            picture = picture[..., ::-1]
        mean, std = (np.asarray(numbers, np.float32) for numbers in (card.mean, card.std))
        values = (picture / np.float32(255) - mean) / std
        if card.pad_mean:
            values[~inside] = 0.0
        if card.input_layout == "nchw":
            values = values.transpose(2, 0, 1)
        return np.ascontiguousarray(values[None], np.float32)

    def _resized(self, image: Image, size: Size) -> NDArray[Any]:
        if is_rounded(self._rule):
            code = self._pillow.Resampling[self._rule.removeprefix("pillow-").upper()]
            along = self._pillow.fromarray(image).resize((size.width, image.shape[0]), code)
            return np.asarray(along.resize((size.width, size.height), code), np.float32)
        if self._rule == "area":
            import cv2

            found = cv2.resize(
                image.astype(np.float32), (size.width, size.height), interpolation=cv2.INTER_AREA
            )
            return np.asarray(found)
        torch = self._torch
        planes = torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float32))
        given: dict[str, Any] = {"mode": "nearest-exact"}
        if self._rule != "nearest":
            given = {"mode": "bilinear", "antialias": self._rule == "antialias"}
        found = torch.nn.functional.interpolate(planes, (size.height, size.width), **given)
        return np.asarray(found[0].numpy().transpose(1, 2, 0))


def independent(card: ModelCard) -> Independent | None:
    """Who prepares images as the card says; None where the library is not there."""
    with suppress(MissingDependencyError):
        return Independent(card.resize)
    return None


def way_noise(card: ModelCard, follows_frame: bool) -> Iterator[Image]:
    """Two images that must be resized, but for a network whose size follows theirs."""
    size = card.input_size
    if not follows_frame:
        size = Size(3 * size.height // 2 | 1, 7 * size.width // 4 | 1)
    return smooth_noise(size, 2)


def enlarges_in_steps(report: ExportReport) -> bool:
    """Whether cutting the tail changes labels by more than rounding."""
    return report.tail.cut and _behind(report.card) < _wanted(report.card)


def agrees_more(card: ModelCard, other: ModelCard) -> bool:
    """Whether behind the network's input its labels are more nearly the source's own."""
    return _behind(card) > _behind(other)


def in_steps(card: ModelCard) -> str:
    """For the user who wants the tail cut."""
    return (
        "the source's own way enlarges its logits in steps, this file in one, which leaves "
        f"{100 * _behind(card):.2f} % of the labels: --keep-tail keeps them, and costs time"
    )


def kept_for(cut: ModelCard) -> str:
    """For the user whose tail stays in the graph."""
    found, wanted = 100 * _behind(cut), 100 * _wanted(cut)
    return (
        "the tail stays in the graph: the source's own way enlarges its logits in steps, and cut, "
        f"{found:.2f} % of the labels were its own (wanted {wanted:.1f} %); "
        "--cut-tail for the faster file"
    )


def _wanted(card: ModelCard) -> float:
    return 1.0 if card.parity is None else _ALIKE[card.parity.kind]


def _behind(card: ModelCard) -> float:
    """Share of equal labels from the network's input on; 1 where the source has no labels."""
    way = card.parity.way if card.parity else None
    return 1.0 if way is None or way.after is None else way.after


def require_alike(way: Preparing, image: Image, card: ModelCard) -> None:
    """Raise where an image is not prepared as by another way."""
    levels = Levels()
    ours = reference.preprocess(image, card, card.place(Size(*image.shape[:2])))
    levels.add(ours, way.tensor(image, card), card)
    levels.require(card, way.name)


def measure_way(
    way: Labelling, exported: Any, images: Iterable[Image], card: ModelCard
) -> tuple[OwnWay, Levels]:
    """Show images to both ways, and tell apart where they differ.

    Labels are compared at the frame's pixels; where a part of the frame is cut off, or a border
    added, at the network's: what own ways make of those is not what belongs there.
    """
    levels, counts, total = Levels(), np.zeros(3), 0
    for image in images:
        geometry = card.place(Size(*image.shape[:2]))
        if geometry.resized != geometry.network:
            geometry = Geometry.fit(geometry.network, geometry.network, "stretch")
        own = way.tensor(image, card)
        ours = reference.preprocess(image, card, card.place(Size(*image.shape[:2])))
        levels.add(ours, own, card)
        theirs, between = way.labels(own, geometry.frame), way.labels(ours, geometry.frame)
        found = reference.labels(exported(ours), card, geometry).astype(np.int64)
        for number, (first, second) in enumerate(
            ((theirs, found), (theirs, between), (between, found))
        ):
            counts[number] += np.count_nonzero(first == second)
        total += found.size
    whole, preprocessing, after = (float(count) for count in counts / max(total, 1))
    return OwnWay(way.name, whole, preprocessing, after, levels.most), levels
