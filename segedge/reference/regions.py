"""The slow truth about regions: what the cleaning of label maps computes, in plain Python.

A *region* is a largest connected set of pixels of one label. Two regions are *neighbours* where a
pixel of one shares a side with a pixel of the other, whatever the connectivity; the number of such
sides is their *common border*. Labels at or beyond the number of classes name no class: their
regions stay as they are and take in no others.

`clean` does, in this order:

1. *Majority* (`majority`): every pixel takes the most frequent label of the window around it, cut
   at the image's border; of equally frequent ones its own, else the smallest.
2. *Marks*. A region is small when it has fewer pixels than its class must have. It is a hole when
   it has fewer than ``fill_holes`` pixels, does not touch the image's border, and those of its
   neighbours that are not small all have one label.
3. *Joining*, in rounds. Settled is, at first, every region that is neither small nor a hole. In a
   round each unsettled region that has settled neighbours takes the label of that one with which
   it has the longest common border; of equal ones that whose first pixel, row by row, comes first.
   Those are settled in the next round. Borders are those of step 2, throughout: regions that took
   the same label do not become one. It ends when nothing changes; where no region of the image is
   settled at first, none is joined.

So, where every label names a class and at least one region was settled, each region of the result
has the pixels that its class must have, and joining again changes nothing (filling holes may: what
encloses a hole can have become one region).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SIDES = ((-1, 0), (0, -1), (0, 1), (1, 0))
_CORNERS = ((-1, -1), (-1, 1), (1, -1), (1, 1))


def regions(labels_hw: NDArray[Any], *, connectivity: int = 4) -> NDArray[np.int64]:
    """Which region each pixel belongs to, H x W: the index of its first pixel, row by row."""
    height, width = labels_hw.shape
    steps = _SIDES if connectivity == 4 else _SIDES + _CORNERS
    found = np.full((height, width), -1, np.int64)
    for first in range(height * width):
        start = divmod(first, width)
        if found[start] >= 0:
            continue
        found[start] = first
        waiting = deque([start])
        while waiting:
            y, x = waiting.popleft()
            for down, along in steps:
                there = y + down, x + along
                if not (0 <= there[0] < height and 0 <= there[1] < width):
                    continue
                if found[there] < 0 and labels_hw[there] == labels_hw[start]:
                    found[there] = first
                    waiting.append(there)
    return found


def majority(labels_hw: NDArray[Any], size: int) -> NDArray[Any]:
    """The most frequent label of the ``size`` x ``size`` window around each pixel."""
    height, width = labels_hw.shape
    reach = size // 2
    out: NDArray[Any] = labels_hw.copy()
    for y in range(height):
        for x in range(width):
            window = labels_hw[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1]
            values, counts = np.unique(window, return_counts=True)
            best = values[counts == counts.max()]
            out[y, x] = labels_hw[y, x] if labels_hw[y, x] in best else best[0]
    return out


def borders(region_hw: NDArray[np.int64]) -> dict[int, Counter[int]]:
    """Common border of each region with each of its neighbours, in pixel sides."""
    found: dict[int, Counter[int]] = {int(r): Counter() for r in np.unique(region_hw)}
    for a, b in ((region_hw[1:], region_hw[:-1]), (region_hw[:, 1:], region_hw[:, :-1])):
        for one, other in zip(a[a != b].tolist(), b[a != b].tolist(), strict=True):
            found[one][other] += 1
            found[other][one] += 1
    return found


def clean(
    labels_hw: NDArray[Any],
    areas: Sequence[int],
    *,
    connectivity: int = 4,
    majority_size: int = 0,
    fill_holes: int = 0,
) -> NDArray[Any]:
    """The cleaned label map by the rules at the head of this file.

    ``areas`` are the least pixels of a region, one number a class; 0 leaves a step out.
    """
    if majority_size > 1:
        labels_hw = majority(labels_hw, majority_size)
    region_hw = regions(labels_hw, connectivity=connectivity)
    label_of = {int(r): int(labels_hw.flat[r]) for r in np.unique(region_hw)}
    pixels = Counter(region_hw.ravel().tolist())
    border_of = borders(region_hw)
    edge = np.concatenate([region_hw[[0, -1]].ravel(), region_hw[:, [0, -1]].ravel()])
    at_edge = set(edge.tolist())
    small = {r for r, c in label_of.items() if c < len(areas) and pixels[r] < areas[c]}
    holes = {
        r
        for r, c in label_of.items()
        if c < len(areas) and pixels[r] < fill_holes and r not in at_edge
        and _is_enclosed({label_of[n] for n in border_of[r] if n not in small}, len(areas))
    }  # fmt: skip
    label_of = _joined(label_of, border_of, small | holes, len(areas))
    cleaned = np.vectorize(label_of.__getitem__, otypes=[labels_hw.dtype])(region_hw)
    return np.asarray(cleaned)


def _is_enclosed(labels_around: set[int], classes: int) -> bool:
    return len(labels_around) == 1 and labels_around.pop() < classes


def _joined(
    label_of: dict[int, int],
    border_of: dict[int, Counter[int]],
    unsettled: set[int],
    classes: int,
) -> dict[int, int]:
    """The labels after joining, round by round."""
    label_of, unsettled = dict(label_of), set(unsettled)
    while True:
        taken = {}
        for r in unsettled:
            offers = [
                (-length, n)
                for n, length in border_of[r].items()
                if n not in unsettled and label_of[n] < classes
            ]
            if offers:
                taken[r] = label_of[min(offers)[1]]
        if not taken:
            return label_of
        label_of.update(taken)
        unsettled -= set(taken)
