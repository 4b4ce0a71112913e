"""Regions of a label map as values: area, box, centroid, polygons, run lengths."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.geometry import Size
from segedge.cpu.kernels.compiled import njit
from segedge.cpu.kernels.tables import KERNEL, Bytes, Ints
from segedge.cpu.regions.clean import RegionFinder

Ring = list[tuple[int, int]]
"""Corners of a closed outline as (x, y), the first one again at the end. Pixel (x, y) covers
x..x+1, y..y+1."""


@dataclass(frozen=True)
class Region:
    """A connected set of pixels of one label."""

    class_name: str
    """Name of its class."""
    label: int
    """Its label."""
    area: int
    """Pixels."""
    box: tuple[int, int, int, int]
    """Left, top, width, height in pixels."""
    centroid: tuple[float, float]
    """Mean x and y of its pixels, whose centres lie at halves."""
    frame: tuple[int, int]
    """Height and width of the image."""
    runs: NDArray[np.int32] = field(repr=False, compare=False)
    """Its runs: row, first column, end; row by row."""

    @cached_property
    def mask(self) -> NDArray[np.uint8]:
        """1 where its pixels are, of the size of `box`, uint8."""
        left, top, width, height = self.box
        mask = np.zeros((height, width), np.uint8)
        for y, start, end in self.runs.tolist():
            mask[y - top, start - left : end - left] = 1
        return mask

    @cached_property
    def polygons(self) -> tuple[tuple[Ring, ...], ...]:
        """Outlines along the sides of its pixels: exact, the area they enclose is `area`.

        One polygon, the outer ring first (clockwise in the picture) and its holes after it
        (anticlockwise); several where parts of the region touch only at corners.
        """
        import cv2

        left, top, _, _ = self.box
        count, parts = cv2.connectedComponents(self.mask, connectivity=4)
        found = []
        for part in range(1, count):
            padded = np.pad(parts == part, 1).astype(np.uint8)
            corners, ends = trace_rings(padded)
            corners = corners + np.array([left - 1, top - 1], np.int32)
            starts = [0, *ends[:-1].tolist()]
            rings = [
                [(x, y) for x, y in corners[start:end].tolist()]
                for start, end in zip(starts, ends.tolist(), strict=True)
            ]
            found.append(tuple([*ring, ring[0]] for ring in rings))
        return tuple(found)

    @cached_property
    def rle_counts(self) -> list[int]:
        """Lengths of runs, column by column, zeros first: COCO's uncompressed counts."""
        height, width = self.frame
        left, _, box_width, _ = self.box
        whole = np.zeros((box_width, height), np.uint8)  # a row is a column of the picture
        top = self.box[1]
        whole[:, top : top + self.box[3]] = self.mask.T
        flat = whole.ravel()
        changes = np.flatnonzero(np.diff(flat)) + 1 + left * height
        bounds = [0, *changes.tolist(), height * width]
        if flat[0]:
            bounds.insert(1, left * height)
        if bounds[-1] == bounds[-2]:
            bounds.pop()
        elif flat[-1] and left + box_width < width:
            bounds.insert(-1, (left + box_width) * height)
        return [end - start for start, end in pairwise(bounds)]

    @property
    def rle(self) -> dict[str, Any]:
        """COCO's RLE: ``size`` (height, width) and ``counts`` as its compressed text."""
        return {"size": list(self.frame), "counts": compress_counts(self.rle_counts)}


def find_regions(
    labels: NDArray[Any],
    classes: Sequence[str],
    *,
    connectivity: int = 4,
    min_area: int = 1,
    wanted: Collection[int] | None = None,
) -> tuple[Region, ...]:
    """The regions of a label map, the largest first; labels that name no class are left out.

    So are regions of fewer than ``min_area`` pixels, and labels that are not ``wanted``.
    """
    size = Size(*labels.shape)
    finder = RegionFinder(size, connectivity=connectivity)
    finder.find(labels)
    numbers, rows = finder.numbers()
    ends = finder.runs.ends[numbers]
    first = np.where(np.diff(rows, prepend=-1) > 0, 0, np.roll(ends, 1))
    roots = finder.runs.parents[numbers]
    runs = np.stack([rows, first, ends], 1).astype(np.int32)
    order = np.argsort(roots, kind="stable")
    cuts = np.flatnonzero(np.diff(roots[order])) + 1
    found = []
    for group in np.split(order, cuts):
        root = int(roots[group[0]])
        label, area = int(finder.runs.labels[root]), int(finder.runs.areas[root])
        if area >= min_area and label < len(classes) and (wanted is None or label in wanted):
            found.append(_region(runs[group], classes[label], label, area, size))
    return tuple(sorted(found, key=lambda region: -region.area))


def _region(runs: NDArray[np.int32], name: str, label: int, area: int, size: Size) -> Region:
    rows, starts, ends = (column.astype(np.int64) for column in runs.T)
    left, top = int(starts.min()), int(rows[0])
    box = (left, top, int(ends.max()) - left, int(rows[-1]) - top + 1)
    lengths = ends - starts
    x = float((lengths * (starts + ends)).sum()) / 2 / area
    y = float((lengths * rows).sum()) / area + 0.5
    return Region(name, label, area, box, (x, y), (size.height, size.width), runs)


def compress_counts(counts: Sequence[int]) -> str:
    """COCO's text of run lengths: differences to the last but one, five bits a character.

    The format is that of ``rleToString`` in the COCO API's maskApi.c.
    """
    text = []
    for i, count in enumerate(counts):
        value = count - counts[i - 2] if i > 2 else count
        more = True
        while more:
            bits = value & 0x1F
            value >>= 5
            more = value != (-1 if bits & 0x10 else 0)
            text.append(chr((bits | 0x20 if more else bits) + 48))
    return "".join(text)


@njit(**KERNEL)
def trace_rings(mask: Bytes) -> tuple[Ints, Ints]:
    """Outlines of one 4-connected set of pixels that keeps off the mask's border.

    Goes along pixel sides with the set on the right, so outer rings are clockwise in the picture;
    at a corner where four pixels meet crosswise it turns left, which keeps holes rings of their
    own. Every ring has a side on top of a pixel, so those sides are where rings start.

    Gives the corners (x, y) of all rings, and where each ring ends; the outer ring is the first.
    """
    height, width = mask.shape
    seen = np.zeros((height, width), np.uint8)
    sides = 0
    for y in range(1, height):
        for x in range(1, width):
            sides += (mask[y, x] != mask[y - 1, x]) + (mask[y, x] != mask[y, x - 1])
    corners, ends = np.empty((sides, 2), np.int32), np.empty(sides, np.int32)
    size, rings = 0, 0
    for row in range(1, height):
        for column in range(1, width):
            if mask[row, column] == 0 or mask[row - 1, column] != 0 or seen[row, column] != 0:
                continue
            x, y, dx, dy = column, row, 1, 0
            first = size
            while True:
                if dx == 1:
                    if seen[y, x] != 0:
                        break
                    seen[y, x] = 1
                x += dx
                y += dy
                # The pixels ahead, left and right of the way, from the corner that was reached.
                ahead_left = mask[y + (dy - dx - 1) // 2, x + (dx + dy - 1) // 2]
                ahead_right = mask[y + (dy + dx - 1) // 2, x + (dx - dy - 1) // 2]
                if ahead_left != 0:
                    dx, dy = dy, -dx
                elif ahead_right == 0:
                    dx, dy = -dy, dx
                else:
                    continue
                corners[size, 0], corners[size, 1] = x, y
                size += 1
            if size > first:
                ends[rings] = size
                rings += 1
    return corners[:size], ends[:rings]
