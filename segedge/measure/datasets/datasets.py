"""Data sets: images with their labels, in the classes of a model's card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segedge.card.labels import LabelSet, Rgb, distinct_palette
from segedge.errors import SourceError
from segedge.measure.datasets.decoder import Decoder
from segedge.measure.datasets.layouts import CLASS_NAMES, Listing, list_layout
from segedge.measure.datasets.mapping import class_table, split_values
from segedge.video.sources.images import read_image


@dataclass(frozen=True)
class Sample:
    """An image and its labels; files are read when asked for, in whatever thread asks.

    Its name is the image's path below the data set.
    """

    name: str
    image_path: Path
    label_path: Path
    decoder: Decoder

    def image(self) -> NDArray[np.uint8]:
        """The image, H x W x 3 uint8 BGR."""
        return read_image(self.image_path)

    def labels(self) -> NDArray[np.int16]:
        """H x W int16 labels of the card, `IGNORED` (-1) where nothing counts."""
        return self.decoder.read(self.label_path)


@dataclass(frozen=True)
class Dataset:
    """Samples in natural order, and what was left out of them."""

    name: str
    layout: str
    """Which of `layouts.LAYOUTS` it was read as."""
    classes: tuple[str, ...]
    """Names of the card's classes, which the labels count in."""
    samples: tuple[Sample, ...]
    missing: tuple[str, ...] = ()
    """Images that have no label file."""
    notes: tuple[str, ...] = ()
    """What the user should know, e.g. which classes of the data set do not count."""
    decoder: Decoder | None = None
    """What its samples' label files are read with."""

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def __len__(self) -> int:
        return len(self.samples)


def open_dataset(
    path: str | Path,
    *,
    card_classes: Sequence[str],
    palette_rgb: Sequence[Rgb] = (),
    ignore_index: int | None = 255,
    layout: str = "auto",
    split: str = "val",
    mapping: Mapping[str, str] | None = None,
) -> Dataset:
    """Find the images and labels of a data set.

    Args:
        path: Its folder.
        card_classes: Class names of the model, in label order.
        palette_rgb: The model's colours, for colour labels of the plain layout.
        ignore_index: The model's ignored label, for the plain layout; 255 is ignored there, too.
        layout: ``auto``, ``cityscapes``, ``camvid``, ``voc``, ``cvat``, ``ade20k`` or ``plain``.
        split: Which part of it: ``train``, ``val``, ``test``.
        mapping: Class of the data set, or label value, to class of the model, or to ``ignore``;
            None where they are the same. See `mapping.parse_mapping`.

    Returns:
        The data set; its files are not read yet.

    Raises:
        SourceError: There is no such folder, no known layout, or no labelled image.
        UsageError: An unknown layout, or classes that are not the model's.
    """
    folder = Path(path)
    listing = list_layout(folder, layout=layout, split=split)
    if not listing.pairs:
        raise _empty(folder, listing)
    names = tuple(card_classes)
    source = listing.labels or LabelSet("model", names, _padded(palette_rgb, names), ignore_index)
    has_own_labels = listing.layout.label_set is not None
    if not has_own_labels:
        source = replace(source, ignore_index=ignore_index)
    named, values = split_values(mapping or {}, source.names, names)
    table, notes = class_table(source.names, names, named, optional=listing.layout.optional)
    if listing.labels is None:
        notes += (
            f"the data set names no classes: its labels are taken for the model's ({_UNNAMED})",
        )
    ignored = _ignored_values(source, has_own_labels=has_own_labels)
    decoder = Decoder(
        source, table, ignored, listing.layout,
        values=values, ours=names, peers=[label for _, label in listing.pairs],
    )  # fmt: skip
    samples = tuple(
        Sample(image.relative_to(listing.root).as_posix(), image, label, decoder)
        for image, label in listing.pairs
    )
    missing = tuple(image.relative_to(listing.root).as_posix() for image in listing.missing)
    return Dataset(_name(folder), listing.layout.name, names, samples, missing, notes, decoder)


_UNNAMED = f"{CLASS_NAMES} in its folder, a name a line, is checked"


def _ignored_values(source: LabelSet, *, has_own_labels: bool) -> frozenset[int]:
    """Values of label files that do not count: what was said, and 255 where no class has it.

    A value outside 0..65535 (PyTorch's -100) is in no file. 255 is what cards say where nobody
    said anything: with more classes it is one of them.
    """
    values = {source.ignore_index} if has_own_labels else {source.ignore_index, 255}
    if len(source) > 255:
        values.discard(255)
    return frozenset(value for value in values if value is not None and 0 <= value < 1 << 16)


def _padded(palette_rgb: Sequence[Rgb], names: tuple[str, ...]) -> tuple[Rgb, ...]:
    palette = tuple(palette_rgb)
    return palette if len(palette) == len(names) else distinct_palette(len(names))


def _name(folder: Path) -> str:
    parts = folder.absolute().parts[-2:]
    return "/".join(parts) if folder.name in ("train", "val", "test") else folder.absolute().name


def _empty(folder: Path, listing: Listing) -> SourceError:
    count = len(listing.missing)
    facts = {
        "layout": listing.layout.name,
        "found": f"{count} images, none with a label file" if count else "no images",
        "expected": listing.layout.expected,
    }
    lossy = next(filter(None, map(listing.lossy_label, listing.missing)), None)
    if lossy is not None:
        facts["labels"] = f"{lossy.relative_to(folder)} is a JPEG, which changes labels"
    return SourceError(f"no labelled image in {folder}", facts=facts)
