"""Data sets: images with their labels, in the classes of a model's card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.labels import LabelSet, Rgb, distinct_palette
from segedge.errors import SourceError, UsageError
from segedge.measure.datasets.label_file import read_label_file
from segedge.measure.datasets.layouts import CLASS_NAMES, Layout, Listing, list_layout
from segedge.measure.datasets.mapping import IGNORED, class_table
from segedge.video.sources.images import read_image

_SHOWN = 8


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
        return self.decoder.decode(read_label_file(self.label_path), self.label_path)


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
        layout: ``auto``, ``cityscapes``, ``camvid``, ``voc``, ``ade20k`` or ``plain``.
        split: Which part of it: ``train``, ``val``, ``test``.
        mapping: Class of the data set to class of the model, or to ``ignore``; None where the
            names are the same.

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
    table, notes = class_table(source.names, names, mapping or {})
    if listing.labels is None:
        notes += (
            f"the data set names no classes: its labels are taken for the model's ({_UNNAMED})",
        )
    ignored = _ignored_values(source, has_own_labels=has_own_labels)
    decoder = Decoder(source, table, ignored, listing.layout)
    samples = tuple(
        Sample(image.relative_to(listing.root).as_posix(), image, label, decoder)
        for image, label in listing.pairs
    )
    missing = tuple(image.relative_to(listing.root).as_posix() for image in listing.missing)
    return Dataset(_name(folder), listing.layout.name, names, samples, missing, notes)


class Decoder:
    """Turns the values of a label file into classes of the card."""

    def __init__(
        self,
        source: LabelSet,
        table: NDArray[np.int16],
        ignored: frozenset[int],
        layout: Layout,
    ) -> None:
        """Tables for all values, made once."""
        self._source = source
        self._has_ids = layout.has_ids
        self._ids = np.full(1 << 16, _UNKNOWN, np.int16)
        self._plain = np.full(1 << 16, _UNKNOWN, np.int16)
        self._plain[: len(table)] = table
        self._plain[list(ignored)] = IGNORED
        self._ids[list(layout.ignored_ids)] = IGNORED
        for raw, label in source.label_of_id.items():
            if raw >= 0:
                self._ids[raw] = table[label] if label < len(table) else IGNORED
        self._colors = {
            rgb: int(table[label]) for label, rgb in reversed(list(enumerate(source.palette_rgb)))
        }
        for rgb, name in layout.colors.items():
            known = name in source.names
            self._colors[rgb] = int(table[source.names.index(name)]) if known else IGNORED
        if (0, 0, 0) not in self._colors:
            self._colors[(0, 0, 0)] = IGNORED

    def decode(self, values: NDArray[Any], path: Path) -> NDArray[np.int16]:
        """H x W int16 labels of the card, `IGNORED` where nothing counts."""
        if values.ndim == 3:
            return self._from_colors(values, path)
        has_ids = self._has_ids(path) and bool(self._source.label_of_id)
        labels: NDArray[np.int16] = (self._ids if has_ids else self._plain)[values]
        if (labels == _UNKNOWN).any():
            unknown = np.unique(values[labels == _UNKNOWN])
            raise _unknown_values(path, unknown, self._expected(has_ids))
        return labels

    def _expected(self, has_ids: bool) -> str:
        if has_ids:
            return f"ids of {self._source.name}: {min(self._source.label_of_id)}.." + str(
                max(self._source.label_of_id)
            )
        ignored = np.flatnonzero(self._plain == IGNORED).tolist()
        also = [str(v) for v in ignored if v >= len(self._source)]
        return f"0..{len(self._source) - 1}" + (f" or {', '.join(also)} (ignored)" if also else "")

    def _from_colors(self, bgr: NDArray[np.uint8], path: Path) -> NDArray[np.int16]:
        codes = bgr[:, :, 2].astype(np.int32) << 16
        codes |= bgr[:, :, 1].astype(np.int32) << 8
        codes |= bgr[:, :, 0]
        known = sorted((r << 16 | g << 8 | b, label) for (r, g, b), label in self._colors.items())
        keys = np.array([code for code, _ in known], np.int32)
        places = np.minimum(np.searchsorted(keys, codes), len(keys) - 1)
        strange = keys[places] != codes
        if strange.any():
            raise _unknown_colors(path, codes[strange], len(keys))
        return np.array([label for _, label in known], np.int16)[places]


_UNKNOWN = -2
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


def _unknown_values(path: Path, unknown: NDArray[Any], expected: str) -> UsageError:
    shown = ", ".join(map(str, unknown[:_SHOWN].tolist()))
    more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
    return UsageError(
        f"{path} holds labels outside the classes",
        facts={"found": shown + more, "expected": expected},
        fix="--ignore VALUE where such a value counts for nothing, or --layout with the layout "
        "that knows these ids",
    )


def _unknown_colors(path: Path, codes: NDArray[Any], known: int) -> UsageError:
    found, counts = np.unique(codes, return_counts=True)
    code = int(found[counts.argmax()])
    return UsageError(
        f"{path} holds colours that are no class",
        facts={
            "found": f"{found.size} unknown colours on {counts.sum()} pixels, first RGB "
            f"({code >> 16}, {code >> 8 & 255}, {code & 255})",
            "expected": f"the {known} colours of the label set",
        },
        fix="colour labels must be lossless (PNG) and never resized with interpolation; "
        "label files of indices are safest",
    )


def _empty(folder: Path, listing: Listing) -> SourceError:
    count = len(listing.missing)
    return SourceError(
        f"no labelled image in {folder}",
        facts={
            "layout": listing.layout.name,
            "found": f"{count} images, none with a label file" if count else "no images",
            "expected": listing.layout.expected,
        },
    )
